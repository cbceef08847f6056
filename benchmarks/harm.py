"""The rows of `benchmarks.isolation`: what is done to a deployment, and how the session that does it may end."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import culprits
from tests.servers import wait_until

if TYPE_CHECKING:
    from benchmarks.isolation import Stage

BOTH = ("sqlite", "mariadb")
SERVER = ("mariadb",)
FILE = ("sqlite",)


@dataclass(frozen=True)
class Row:
    """One thing that happens."""

    name: str
    #: Does it; returns the sessions that are not innocent.
    harm: Callable[[Stage], list[str]]
    #: The codes that these may end with, or `done`.
    ends: tuple[str, ...] = ("done",)
    databases: tuple[str, ...] = BOTH
    #: It kills or blocks a worker.
    deadly: bool = False
    #: How long an innocent on another worker may be silent, and a poll may take.
    silence_s: float = 1.5
    poll_s: float = 1.5


def asking(model: str) -> Callable[[Stage], list[str]]:
    """A session whose model answers so."""
    return lambda stage: [stage.ask("What?", model)]


def doing(name: str) -> Callable[[Stage], list[str]]:
    """A session whose orchestrator does so."""
    return lambda stage: [stage.ask(f"do {name}")]


def _seconds(wanted: float) -> float:
    return max(wanted * min(culprits.SCALE, 1.0), 3.0)


@contextmanager
def foreign(stage: Stage, *statements: str) -> Iterator[Any]:
    """Somebody else's connection, which has run *statements* and keeps their locks."""
    with closing(stage.deployment.connect()) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        try:
            yield cursor
        finally:
            with suppress(Exception):
                cursor.execute("ROLLBACK")
                cursor.execute("UNLOCK TABLES")


def locking(seconds: float, *statements: str) -> Callable[[Stage], list[str]]:
    """A session that talks, and locks that somebody else holds for so long; {session}, {conversation}: its ids."""

    def harm(stage: Stage) -> list[str]:
        session_id = stage.ask("do talks")
        conversation = stage.deployment.session(session_id)["conversationId"]
        filled = [each.format(session=session_id, conversation=conversation) for each in statements]
        with foreign(stage, *filled):
            time.sleep(_seconds(seconds))
        return [session_id]

    return harm


def _nothing(stage: Stage) -> list[str]:
    time.sleep(3)
    return []


def _alter_behind_a_read(stage: Stage) -> list[str]:
    """Somebody reads in a transaction, and somebody's ALTER waits for it: everybody else waits for the ALTER."""

    def alter() -> None:
        with suppress(Exception), foreign(stage, "SET lock_wait_timeout = 60") as cursor:
            cursor.execute("ALTER TABLE chatSessions COMMENT = 'altered'")

    with foreign(stage, "BEGIN", "SELECT COUNT(*) FROM chatSessions"):
        thread = threading.Thread(target=alter)
        thread.start()
        time.sleep(_seconds(14))
    thread.join()
    return []


def _interrupted(stage: Stage) -> list[str]:
    """1,500 messages wait in one conversation; the next one ends them all."""
    first = stage.ask("do swallows")
    conversation = stage.deployment.session(first)["conversationId"]
    made = [first]

    def post(count: int) -> None:
        for _ in range(count):
            answer = stage.deployment.call(
                "POST", "/api/chat/session", {"message": "do sleeps", "conversationId": conversation}
            )
            if answer.status != 202:
                return
            made.append(answer.body["sessionId"])

    threads = [threading.Thread(target=post, args=(int(1500 * culprits.SCALE) // 4,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    begun = time.monotonic()
    made.append(stage.ask("do sleeps", conversationId=conversation, onBusy="interrupt"))
    stage.notice(time.monotonic() - begun < 5, f"the interrupt took {time.monotonic() - begun:.1f} s")
    return made


def _bad_jobs(stage: Stage) -> list[str]:
    """Job ids that lead nowhere, and jobs that can't be read; then a new session, whose first word must come soon."""
    key = "rq:queue:sessions"
    for _ in range(int(300 * culprits.SCALE)):
        job = secrets.token_hex(8)
        stage.deployment.redis("hset", f"rq:job:{job}", "data", b"\x80\x04no JSON", "created_at", "never")
        stage.deployment.redis("rpush", key, job)
    for _ in range(int(5000 * culprits.SCALE) // 100):
        stage.deployment.redis("rpush", key, *(secrets.token_hex(8) for _ in range(100)))
    begun = time.monotonic()
    session_id = stage.ask("do sleeps")
    wait_until(lambda: stage.deployment.session(session_id)["startedAt"], "a new session is claimed")
    took_s = time.monotonic() - begun
    stage.notice(took_s < 3, f"a new session waited {took_s:.1f} s")
    return [session_id]


def _clock_steps(stage: Stage) -> list[str]:
    """The database's clock goes 15 s ahead, and back."""
    link = stage.deployment.points / "clock"
    for ahead in ("15", "-15"):
        link.symlink_to(ahead)
        time.sleep(_seconds(12))
        link.unlink()
        time.sleep(_seconds(6))
    return []


def _standing_still(stage: Stage) -> list[str]:
    """One worker is frozen for longer than a lease, and goes on."""
    worker = stage.workers[0]
    # Not inside a write to SQLite, which would hold up everybody: that is a limit of its own.
    worker.pause()
    while stage.deployment.database is None and not stage.deployment.can_be_written():
        worker.resume()
        time.sleep(0.02)
        worker.pause()
    stage.deaths.append(stage.name_of(worker))
    time.sleep(25)
    worker.resume()
    return []


def _killed(stage: Stage) -> list[str]:
    stage.workers[0].signal(signal.SIGKILL)
    time.sleep(16)
    return []


def _cancelled_in_mid_thought(stage: Stage) -> list[str]:
    session_id = stage.ask("What?", "thoughts")
    time.sleep(2)
    stage.deployment.cancel_answer(session_id)
    return [session_id]


_SESSION = "SELECT * FROM chatSessions WHERE sessionId = '{session}' FOR UPDATE"
_CONVERSATION = "SELECT * FROM chatConversations WHERE conversationId = '{conversation}' FOR UPDATE"
_EVENTS = "SELECT * FROM chatEvents WHERE sessionId = '{session}' FOR UPDATE"
_COUNTS = "SELECT * FROM chatAgentCounts FOR UPDATE"
#: Over this table's lock nobody can write; then all go on.
_TABLE_S = 14.0
_TOO_MUCH = ("answer_too_large", "answer_too_long", "model_error")
_TOO_MANY = ("too_many_events", "too_many_tool_calls", "tool_results_too_large")
_OVER_A_BOUND = ("thinking_too_long", "done")


def _rows() -> Sequence[Row]:
    tools = ("done", "tool_failed")
    return (
        Row("nothing", _nothing),
        # What has been made to happen
        Row("a session's row is locked", locking(90, "BEGIN", _SESSION), databases=SERVER),
        Row("1,500 queued, interrupted", _interrupted, ("cancelled", "done")),
        Row("arguments that can't be said", doing("unspeakable")),
        Row("exits", doing("exits"), ("worker_lost",), deadly=True),
        Row("blocks the loop", doing("blocks"), ("worker_lost", "blocked"), deadly=True),
        Row("thinks 466 MB", doing("thinks"), _OVER_A_BOUND),
        Row("model thinks 466 MB", asking("thoughts"), _OVER_A_BOUND),
        Row("200 MB in a small gzip", asking("compressed"), _TOO_MUCH),
        Row("a line of 100 MB", asking("line"), _TOO_MUCH),
        Row("KeyboardInterrupt in a tool", asking("tool-interrupts"), tools),
        Row("loop.stop() in a tool", asking("tool-stops_the_loop"), tools),
        Row("an endless iterator", asking("tool-endless"), tools),
        Row(
            "LOCK TABLES",
            locking(_TABLE_S, "LOCK TABLES chatSessions WRITE"),
            databases=SERVER,
            silence_s=_TABLE_S + 2.5,
            poll_s=5.0,
        ),
        Row("ALTER behind a read", _alter_behind_a_read, databases=SERVER, silence_s=_TABLE_S + 2.5, poll_s=5.0),
        Row("1,000 calls in one answer", asking("calls"), ("too_many_tool_calls",)),
        Row("100 MB of arguments", asking("arguments"), ("tool_arguments_too_large",)),
        Row("bad jobs in Redis", _bad_jobs),
        Row("the database's clock steps", _clock_steps),
        # Siblings of these
        Row("a conversation's row is locked", locking(30, "BEGIN", _CONVERSATION), databases=SERVER),
        Row("a session's events are locked", locking(30, "BEGIN", _EVENTS), databases=SERVER),
        Row("all counts are locked", locking(14, "BEGIN", _COUNTS), databases=SERVER),
        Row("events are locked", locking(_TABLE_S, "LOCK TABLES chatEvents WRITE"), databases=SERVER,
            silence_s=_TABLE_S + 2.5, poll_s=5.0),
        Row("the file is locked", locking(_TABLE_S, "BEGIN IMMEDIATE"), databases=FILE, silence_s=_TABLE_S + 2.5),
        Row("text that lies about its length", doing("lies"), ("answer_too_large", "done")),
        Row("a result that lies", asking("tool-lies_about_its_length"), tools),
        Row("a tool cancels all tasks", asking("tool-cancels_everything"), tools),
        Row("a tool holds the loop for 1 s", asking("tool-blocks_for_seconds"), tools),
        Row("100 tools that sleep", asking("threads"), tools),
        Row("a generator that spins", _stopped_after(5, "never_yields"), ("cancelled",)),
        Row("a session that can't be stopped", _stopped_after(3, "swallows"), ("cancelled",)),
        Row("tasks that spin", doing("starts_tasks")),
        Row("checkpoints of 100 MB", doing("checkpoints"), ("checkpoint_too_large",)),
        Row("50,000 deltas", doing("talks")),
        Row("50,000 pieces of a model", asking("many-tiny")),
        Row("calls without an end", doing("floods"), _TOO_MANY),
        Row("spaces without an end", asking("endless-line"), (*_TOO_MUCH, "empty_answer")),
        Row("cancelled in 466 MB of thought", _cancelled_in_mid_thought, ("cancelled", *_OVER_A_BOUND)),
        Row("a worker stands still", _standing_still, deadly=True),
        Row("a worker is killed", _killed, deadly=True),
    )  # fmt: skip


def _stopped_after(seconds: float, name: str) -> Callable[[Stage], list[str]]:
    def harm(stage: Stage) -> list[str]:
        session_id = stage.ask(f"do {name}")
        time.sleep(seconds)
        stage.deployment.cancel(session_id)
        return [session_id]

    return harm


ROWS = _rows()
