"""Do lists stay as quick, and appends undisturbed, when the tables are large?

    python -m benchmarks.large_history [--history 2000000] [--messages 1000000] [--prune 1000000] [--sqlite]

Fills a private MariaDB (or SQLite file) twice, small and large, with conversations of one shape. Prints what the first
page of each list costs on both and their ratio, the plan of every statement behind it on the large one, and how long
appends took with and without a pruning of that many rows beside them.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import peewee

from app import db, sessions
from app.conversations import messages as message_pages
from app.conversations import queries as conversation_queries
from app.conversations import search as message_search
from app.conversations.words import indexed
from app.db import schema
from app.db.ids import new_id
from app.db.models import AgentEvent, Message
from app.db.times import to_ms, utc_now
from app.events import Delta, Done, Thinking, Usage
from app.history import entries, queries
from app.history.queries import Wanted
from app.history.retention import Pruner
from app.sessions import NewSession, claims, commit
from app.sessions import queries as session_queries
from app.sessions.commit import Batch
from app.settings import Settings
from tests.servers import MariaDB

OWNER = "local"
#: Another owner, who has said "common" so often.
OTHER, FOREIGN = "other", 60_000
AGENTS = 4
#: Of one conversation: turns, and what the history tells of each.
TURNS = 10
TOLD = (
    "prompt_sent",
    "activity_changed",
    "thinking",
    "tool_use",
    "output",
    "usage_update",
    "result",
    "activity_changed",
)
SMALL = 10_000
ROWS_AT_ONCE = 2_000
REPEATS = 40
#: Messages with a word that all others lack.
NEEDLES = 50
WORDS = [f"word{number}" for number in range(20_000)]


@dataclass(frozen=True)
class Filled:
    """What the calls that are measured need to name."""

    agent_id: int
    conversation_id: str
    session_id: str


def fill(history: int, messages: int, seed: int = 1) -> Filled:
    """Store so many rows: conversations of ten turns, spread over agents and the last hundred days."""
    chance = random.Random(seed)
    conversations = max(history // (TURNS * len(TOLD)), messages // (2 * TURNS))
    start, span = utc_now() - timedelta(days=100), timedelta(days=99)
    at = Message.created_at.db_value
    tables = {name: Insert(name, columns) for name, columns in COLUMNS.items()}
    counts: Counter[tuple[int, str, int, str]] = Counter()
    told_rows, said_rows = history, messages
    for number in range(conversations):
        # In the order of their times, as they would have been written.
        begun = start + span * number / conversations
        conversation_id, agent_id = new_id(to_ms(begun)), number % AGENTS + 1
        told = said = 0
        title = f"title {chance.choice(WORDS)}"
        tables["chatSearch"].add(OWNER, conversation_id, None, None, indexed(OWNER, title))
        for turn in range(TURNS):
            turn_at = begun + timedelta(seconds=turn)
            session_id = new_id(to_ms(turn_at))
            moment = at(turn_at)
            tables["chatSessions"].add(
                session_id, conversation_id, OWNER, agent_id, "done", "question", "answer", 2, moment, moment, moment
            )
            for kind in TOLD[: max(0, told_rows)]:
                told, told_rows = told + 1, told_rows - 1
                tables["chatAgentEvents"].add(
                    new_id(to_ms(turn_at)), agent_id, OWNER, conversation_id, session_id, told, 1,
                    kind, "some text that somebody said " * 3, '{"ok":true}', moment,
                )  # fmt: skip
                counts[agent_id, OWNER, entries._shard(conversation_id), kind] += 1
            for role in ("user", "assistant")[: max(0, said_rows)]:
                said, said_rows = said + 1, said_rows - 1
                words = " ".join(chance.choices(WORDS, k=6))
                if said_rows < NEEDLES:
                    words += " needle"
                tables["chatMessages"].add(OWNER, conversation_id, session_id, role, words, "{}", moment)
                tables["chatSearch"].add(
                    OWNER, conversation_id, session_id, messages - said_rows, indexed(OWNER, words)
                )
        tables["chatConversations"].add(
            conversation_id, OWNER, agent_id, f"Title {number}", told, said, at(begun), at(begun + timedelta(minutes=1))
        )
        if number % 20_000 == 19_999:
            print(f"  {number + 1} of {conversations} conversations")
    for _ in range(FOREIGN):
        words = indexed(OTHER, f"common {' '.join(chance.choices(WORDS, k=6))}")
        tables["chatSearch"].add(OTHER, "other", None, None, words)
    for table in tables.values():
        table.flush()
    db.transaction(lambda: entries._add_counts(counts))
    if not db.is_sqlite():
        for name in COLUMNS:
            db.database.execute_sql(f"ANALYZE TABLE {name}").fetchall()
    columns = (AgentEvent.agent_id, AgentEvent.conversation_id, AgentEvent.session_id)
    newest = AgentEvent.select(*columns).order_by(AgentEvent.row_id.desc())
    [found] = db.tuples(newest.limit(1))
    return Filled(*found)


COLUMNS = {
    "chatConversations": "conversationId owner agentId title historySeq messageCount createdAt updatedAt",
    "chatSessions": "sessionId conversationId owner agentId status userMessage finalResponse lastSeq createdAt"
    " updatedAt endedAt",
    "chatMessages": "owner conversationId sessionId role content metadata createdAt",
    "chatSearch": "owner conversationId sessionId messageId words",
    "chatAgentEvents": "id agentId owner conversationId sessionId seq sessionNumber eventType content metadata"
    " createdAt",
}


class Insert:
    """Many rows in a statement."""

    def __init__(self, table: str, columns: str) -> None:
        names = columns.split()
        self._statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES "
        self._marks = f"({db.marks(len(names))})"
        # SQLite takes 32,766 parameters.
        self._most = ROWS_AT_ONCE if not db.is_sqlite() else 32_000 // len(names)
        self._rows: list[tuple[Any, ...]] = []

    def add(self, *row: Any) -> None:
        self._rows.append(row)
        if len(self._rows) >= self._most:
            self.flush()

    def flush(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            values = [value for row in rows for value in row]
            statement = self._statement + ",".join((self._marks,) * len(rows))
            db.transaction(lambda: db.sql(statement, values))


@dataclass(frozen=True)
class Stage:
    opened: peewee.Database
    filled: Filled


def lists(filled: Filled) -> dict[str, Callable[[], object]]:
    """The first page of everything that is listed."""

    def history(order: Any = "desc", **fields: Any) -> Callable[[], object]:
        return lambda: queries.page(Wanted(OWNER, filled.agent_id, **fields), order=order)

    here = filled.conversation_id
    return {
        "sessions": lambda: session_queries.list_recent(OWNER),
        "sessions of an agent": lambda: session_queries.list_recent(OWNER, agent_id=1),
        "conversations": lambda: conversation_queries.list_recent(OWNER),
        "messages of a conversation": lambda: message_pages.of_conversation(OWNER, here),
        "messages of a session": lambda: message_pages.of_session(OWNER, filled.session_id),
        "history, newest": history(),
        "history, oldest": history("asc"),
        "history, tools": history(types=frozenset({"tool_use"})),
        "history, four types": history(types=frozenset({"tool_use", "result", "output", "prompt_sent"})),
        "history, clears (none)": history(types=frozenset({"context_cleared"})),
        "history of a conversation": history(conversation_id=here),
        "history of a session": history(session=filled.session_id),
        "history of an hour": history(since=utc_now() - timedelta(days=2), until=utc_now() - timedelta(days=1.99)),
        f"search, {NEEDLES} messages match": lambda: message_search.search(OWNER, "needle"),
        "search, unknown word": lambda: message_search.search(OWNER, "unknown"),
        f"search, in {FOREIGN:,} of another": lambda: message_search.search(OWNER, "common"),
        "(search, 1 in 3,333 matches)": lambda: message_search.search(OWNER, "word19999"),
        "(summary, counted each time)": lambda: queries.summary(OWNER, filled.agent_id),
    }


def costs_ms(stages: dict[str, Stage], name: str) -> list[float]:
    """What a list costs on each of the stages: the lower quartile of calls that take turns, so that what else the
    machine does disturbs both alike."""
    took: dict[str, list[float]] = {each: [] for each in stages}
    for _ in range(REPEATS):
        for each, stage in stages.items():
            db.database.initialize(stage.opened)
            call = lists(stage.filled)[name]
            with db.connected():
                started = time.perf_counter()
                call()
                took[each].append((time.perf_counter() - started) * 1000)
    return [statistics.quantiles(took[each], n=4)[0] for each in stages]


@contextmanager
def recorded() -> Iterator[list[tuple[str, Any]]]:
    """Every statement that runs meanwhile."""
    statements: list[tuple[str, Any]] = []
    made = db.database.obj
    original = made.execute_sql

    def execute_sql(sql: str, params: Any = None, *rest: Any) -> Any:
        statements.append((sql, params))
        return original(sql, params, *rest)

    made.execute_sql = execute_sql
    try:
        yield statements
    finally:
        del made.execute_sql


def plan(sql: str, params: Any) -> list[str]:
    """What the database does for a statement; a table that is read whole is marked."""
    if db.is_sqlite():
        rows = db.database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()
        return [("!! " if row[3].startswith("SCAN") and "INDEX" not in row[3] else "   ") + row[3] for row in rows]
    out = []
    for row in db.database.execute_sql(f"EXPLAIN {sql}", params).fetchall():
        _, _, table, kind, _, key, _, _, count, extra = row
        whole = kind == "ALL" and table is not None and not str(table).startswith("<")
        out.append(f"{'!!' if whole else '  '} {table}: {kind} {key or ''} rows≈{count} {extra or ''}")
    return out


def show_lists(stages: dict[str, Stage]) -> None:
    print(f"\n{'first page':30} {'small ms':>9} {'large ms':>9} {'ratio':>6}")
    for name in lists(stages["small"].filled):
        small, large = costs_ms(stages, name)
        print(f"{name:30} {small:9.2f} {large:9.2f} {large / small:6.2f}")


def show_plans(filled: Filled) -> None:
    print("\nplans on the large one (!! = read whole)")
    with db.connected():
        for name, call in lists(filled).items():
            with recorded() as statements:
                call()
            print(name)
            for step in dict.fromkeys(step for sql, params in statements for step in plan(sql, params)):
                print(f"   {step}")


def append(seconds: float | None, until: threading.Event) -> list[tuple[float, str]]:
    """Flushes as a busy worker writes them, every 20 ms: milliseconds of each transaction, and which it was."""
    took: list[tuple[float, str]] = []

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        try:
            return work()
        finally:
            took.append(((time.perf_counter() - started) * 1000, name))

    ends = time.monotonic() + (seconds or 10**9)
    while time.monotonic() < ends and not until.is_set():
        created = [timed("create", lambda: sessions.create(NewSession(OWNER, "question", 1, "demo"))) for _ in range(3)]
        held = [
            timed(
                "claim",
                lambda made=made: claims.take([made.session_id], "bench", max_attempts=3, turn_timeout_s=900)[0][0],
            )
            for made in created
        ]
        steps = ([Thinking("")], *([Delta("some words ")] for _ in range(8)), [Done(usage=Usage(10, 10))])
        for after, events in enumerate(steps):
            batches = [Batch(claim, after, events) for claim in held]
            name = "end" if events[-1].type == "done" else "events"
            timed(name, lambda batches=batches: commit.commit(batches))
            time.sleep(0.02)
    return took


def show_delays(name: str, took: list[tuple[float, str]]) -> None:
    ordered = sorted(each for each, _ in took)
    late = sum(each > 200 for each in ordered)
    p99 = ordered[int(len(ordered) * 0.99)]
    longest = ", ".join(f"{each:.0f} ({what})" for each, what in sorted(took, reverse=True)[:5])
    print(
        f"{name:22} {len(took):6} appends   median {statistics.median(ordered):6.1f} ms   99 % {p99:6.1f} ms"
        f"   longest, ms: {longest}   over 200 ms: {late}"
    )


def prune(rows: int) -> None:
    """Prune so many of the oldest rows of history while others append."""
    with db.connected():
        total = sum(entries.total_of_agent(agent) for agent in range(1, AGENTS + 1))
    most = max(1, (total - rows) // AGENTS)
    pruner = Pruner("bench", Settings(retention_days=36_500, event_retention_days=36_500, max_events_per_agent=most))
    idle = append(20, threading.Event())
    ended = threading.Event()
    started = time.monotonic()
    failures: list[Exception] = []

    def work() -> None:
        try:
            assert pruner.prune()
        except Exception as error:  # noqa: BLE001 - raised again below
            failures.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    busy = append(None, ended)
    thread.join()
    if failures:
        raise failures[0]
    with db.connected():
        left = sum(entries.total_of_agent(agent) for agent in range(1, AGENTS + 1))
        stored = AgentEvent.select().count()
    print(f"\npruned about {total - left} of {total} rows in {time.monotonic() - started:.0f} s")
    print(f"counted as left: {left}, stored: {stored}")
    show_delays("without pruning", idle)
    show_delays("beside pruning", busy)


def run(arguments: argparse.Namespace, url: Callable[[str], str], filled: Callable[[], None]) -> None:
    stages: dict[str, Stage] = {}
    for name, history, messages in (
        ("small", SMALL, SMALL),
        ("large", arguments.history, arguments.messages),
    ):
        opened = db.open_database(url(name))
        schema.migrate()
        started = time.monotonic()
        print(f"{name}: {history} rows of history, {messages} messages")
        with db.connected():
            stages[name] = Stage(opened, fill(history, messages))
        print(f"  filled in {time.monotonic() - started:.0f} s")
    filled()
    show_lists(stages)
    show_plans(stages["large"].filled)
    if arguments.prune:
        prune(arguments.prune)


def settle(server: MariaDB) -> None:
    """Let the server write down what filling has left in memory, then keep every commit, as by default."""
    durable, clean = "innodb_flush_log_at_trx_commit = 1", "innodb_max_dirty_pages_pct = 0"
    server.execute(*(f"SET GLOBAL {each}" for each in (durable, clean, "innodb_io_capacity = 2000")))
    dirty = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'"
    with db.connected():
        while int(db.database.execute_sql(dirty).fetchone()[1]) > 1000:
            time.sleep(0.5)
    server.execute("SET GLOBAL innodb_max_dirty_pages_pct = 90", "SET GLOBAL innodb_io_capacity = 200")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", type=int, default=2_000_000, help="rows of agents' history")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--prune", type=int, default=1_000_000, help="rows of history to prune; 0: none")
    parser.add_argument("--sqlite", action="store_true", help="SQLite instead of a private MariaDB")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="large-history-") as folder:
        if arguments.sqlite:
            run(arguments, lambda name: f"sqlite:///{folder}/{name}.db", lambda: None)
            return
        server = MariaDB(Path(folder) / "mariadb").start()
        try:
            # As a server of this size would be given.
            server.execute(
                "SET GLOBAL innodb_buffer_pool_size = 2147483648",
                "SET GLOBAL innodb_log_file_size = 536870912",
                "SET GLOBAL innodb_flush_log_at_trx_commit = 0",
            )
            run(arguments, server.create_database, lambda: settle(server))
        finally:
            server.kill9()


if __name__ == "__main__":
    main()
