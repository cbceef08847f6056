"""What one session, row or tool does, and what the 24 sessions beside it notice: real processes, two workers.

    python -m benchmarks.isolation                                    # every row, on both databases
    python -m benchmarks.isolation --only blocks --database mariadb   # some
    python -m benchmarks.isolation --scale 0.1 --settle 5             # a quick look

A row holds when the innocent sessions of workers that the culprit was not on are at attempt 1 and never silent for
over 1.5 s, those of a worker that it killed or blocked go on within 15 s and no attempt counts against them, all 24 end
as done, polls are answered, the culprit ends with a code that says why, and a minute later no worker has more than 1.2
times the memory it had before. Exits with 1 if one does not.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from benchmarks import culprits
from benchmarks.harm import ROWS, Row
from tests import preloaded
from tests.chaos.deployment import Deployment
from tests.model_server import ModelServer
from tests.servers import EmbeddedBroker, MariaDB, Process, RedisServer, guard, memory, wait_until

INNOCENTS = 24
WORKERS = 2
#: An innocent says something this often.
EVERY_S = 0.25
#: What the issue of a row may cost others.
TAKEOVER_S = 15.0
GROWTH = 1.2
#: How long a row may take to end.
END_S = 150.0


@dataclass
class Found:
    """What the innocents of one row noticed."""

    row: Row
    database: str
    #: Attempts of those on workers that nothing happened to, at most.
    attempts: int = 1
    silence_s: float = 0.0
    #: The same of those whose worker the culprit was on, or which died: until they went on.
    takeover_s: float = 0.0
    taken_over: int = 0
    #: Attempts that count against an innocent, at most.
    counted: int = 1
    done: int = 0
    growth: float = 1.0
    deaths: int = 0
    poll_s: float = 0.0
    culprits: list[str] = field(default_factory=list)
    #: What else must not be.
    notices: list[str] = field(default_factory=list)

    @property
    def breaches(self) -> list[str]:
        row = self.row
        checks = {
            "attempts": self.attempts == 1,
            "silence": self.silence_s <= row.silence_s,
            "takeover": self.takeover_s <= TAKEOVER_S,
            "counted": self.counted <= 1,
            "done": self.done == INNOCENTS,
            "memory": self.growth <= GROWTH,
            "polls": self.poll_s <= row.poll_s,
            "culprit": all(code in row.ends for code in self.culprits),
        }
        return [name for name, held in checks.items() if not held] + self.notices

    def line(self) -> str:
        codes = ", ".join(sorted(set(self.culprits))) or "-"
        verdict = "holds" if not self.breaches else "BROKEN: " + ", ".join(self.breaches)
        return (
            f"{self.row.name:<34} {self.database:<8} {self.attempts:>3} {self.silence_s:>7.1f} {self.deaths:>4}"
            f" {self.taken_over:>4} {self.takeover_s:>6.1f} {self.counted:>4} {self.done:>4} {self.growth:>6.2f}"
            f" {self.poll_s:>5.1f}  {codes:<32.32} {verdict}"
        )


HEAD = (
    f"{'row':<34} {'database':<8} {'att':>3} {'silence':>7} {'died':>4} {'over':>4} {'within':>6} {'cnt':>4}"
    f" {'done':>4} {'memory':>6} {'poll':>5}  {'the culprit ended as':<32} verdict"
)


class Stage:
    """A deployment with workers that are started again when they die."""

    def __init__(self, deployment: Deployment, innocents: ModelServer) -> None:
        self.deployment = deployment
        self.workers: list[Process] = []
        self.deaths: list[str] = []
        self.notices: list[str] = []
        self._names: dict[int, str] = {}
        self._innocents = innocents
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> None:
        self.deployment.start_web()
        for _ in range(WORKERS):
            self.workers.append(self.deployment.start_worker())
        for worker in self.workers:
            self._name(worker)

    def _name(self, worker: Process) -> None:
        found = re.search(r"worker=(\S+)", worker.wait_for_line("worker started"))
        assert found is not None
        self._names[id(worker)] = found[1]

    def name_of(self, worker: Process) -> str:
        return self._names[id(worker)]

    @contextmanager
    def supervised(self) -> Iterator[None]:
        """Whatever dies is started again at once, as systemd would."""
        self._stop.clear()
        thread = threading.Thread(target=self._supervise)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _supervise(self) -> None:
        while not self._stop.wait(0.1):
            for worker in self.workers:
                if not worker.alive:
                    self.deaths.append(self.name_of(worker))
                    worker.start()
                    self._name(worker)

    def renew_workers(self) -> None:
        """New processes in place of those that the last row may have left blocked."""
        for worker in self.workers:
            worker.kill9()
            worker.start()
        for worker in self.workers:
            self._name(worker)

    def memory(self) -> list[float]:
        return [psutil.Process(worker.pid).memory_info().rss / 2**20 for worker in self.workers]

    def notice(self, held: bool, what: str) -> None:
        """Something of the row that must hold."""
        if not held:
            self.notices.append(what)

    def ask(self, message: str, model: str = "", **fields: Any) -> str:
        """A new session, once it is accepted."""
        body = {"message": message, "model": f"openai-chat:{model}"} if model else {"message": message}
        headers = {"Idempotency-Key": secrets.token_hex(8)}
        deadline = time.monotonic() + END_S
        while True:
            answer = self.deployment.call("POST", "/api/chat/session", body | fields, headers)
            if answer.status == 202:
                return str(answer.body["sessionId"])
            assert answer.status in (0, 503), answer
            assert time.monotonic() < deadline, answer
            time.sleep(0.1)

    def start_innocents(self) -> tuple[str, list[str]]:
        """Sessions that say something until their model is released."""
        steps = [{"until_released": {"text": "word ", "every": EVERY_S}}, {"text": "the end"}]
        model = self._innocents.add({"answers": [{"steps": steps}], "record": False})
        ids = [self.ask("Go on.", model) for _ in range(INNOCENTS)]
        for session_id in ids:
            self.deployment.wait_for_text(session_id)
        return model, ids

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(self.deployment.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]

    def workers_of(self, ids: list[str]) -> dict[str, str]:
        """The worker of each session, by its id."""
        found = self.rows(f"SELECT sessionId, worker FROM chatSessions WHERE sessionId IN ({_list(ids)})")
        return dict(found) if ids else {}

    def ends(self, ids: list[str]) -> list[str]:
        """How sessions ended: an error code, `done` or `running`."""
        if not ids:
            return []
        query = f"SELECT COALESCE(errorCode, status) FROM chatSessions WHERE sessionId IN ({_list(ids)})"
        return [code for (code,) in self.rows(query)]


def _list(ids: list[str]) -> str:
    return ", ".join(f"'{session_id}'" for session_id in ids) or "''"


def measure(stage: Stage, row: Row, database: str, settle_s: float) -> Found:
    """Let one row happen beside the innocents."""
    found = Found(row, database)
    stage.deaths.clear()
    stage.notices.clear()
    before = stage.memory()
    model, innocents = stage.start_innocents()
    at = stage.workers_of(innocents)
    touched: set[str] = set()
    polls = _Polls(stage, innocents[0])
    begun = time.time()
    with stage.supervised(), polls:
        with _watching(stage, touched) as watched:
            try:
                watched += row.harm(stage)
                _until(lambda: "running" not in stage.ends(watched), END_S)
            except AssertionError as error:
                stage.notice(False, str(error)[:300])
        # What a worker that died has left is taken over before it ends.
        time.sleep(2.0)
        released = time.time()
        stage._innocents.release(model)
        _until(lambda: "running" not in stage.ends(innocents), END_S)
        found.culprits = stage.ends(watched)
        found.done = stage.ends(innocents).count("done")
        found.notices = list(stage.notices)
        found.deaths = len(stage.deaths)
        found.poll_s = polls.longest_s
        _read_innocents(stage, found, innocents, at, touched | set(stage.deaths), begun, released)
        for session_id in (*watched, *innocents):
            stage.deployment.call("POST", f"/api/chat/session/{session_id}/cancel")
        time.sleep(settle_s)
        found.growth = max(after / first for first, after in zip(before, stage.memory(), strict=True))
    if row.deadly:
        stage.renew_workers()
    return found


def _until(condition: Any, timeout_s: float) -> None:
    with suppress(AssertionError):
        wait_until(condition, "", timeout_s)


def _read_innocents(
    stage: Stage, found: Found, ids: list[str], at: dict[str, str], harmed: set[str], begun: float, released: float
) -> None:
    events: dict[str, list[tuple[float, int]]] = defaultdict(list)
    query = f"SELECT sessionId, createdAt, attempt FROM chatEvents WHERE sessionId IN ({_list(ids)}) ORDER BY id"
    for session_id, created_at, attempt in stage.rows(query):
        events[session_id].append((_seconds(created_at), attempt))
    counts = stage.rows(
        f"SELECT sessionId, attempt, attempt - handbacks FROM chatSessions WHERE sessionId IN ({_list(ids)})"
    )
    for session_id, attempt, counted in counts:
        found.counted = max(found.counted, counted)
        own = events[session_id]
        for (earlier, of), (later, then) in pairwise(own):
            if later < begun or earlier > released:
                continue
            if then > of and at[session_id] in harmed:
                found.takeover_s = max(found.takeover_s, later - earlier)
            elif at[session_id] not in harmed:
                found.silence_s = max(found.silence_s, later - earlier)
        found.taken_over += attempt > 1
        if at[session_id] not in harmed:
            found.attempts = max(found.attempts, attempt)


def _seconds(moment: Any) -> float:
    made = moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)
    return made.replace(tzinfo=UTC).timestamp()


@contextmanager
def _watching(stage: Stage, touched: set[str]) -> Iterator[list[str]]:
    """Note on which workers the sessions in the list are, while the block runs."""
    watched: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            with suppress(Exception):
                touched.update(name for name in stage.workers_of(watched[:50]).values() if name)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield watched
    finally:
        over.set()
        thread.join()


class _Polls:
    """Somebody polls one session."""

    def __init__(self, stage: Stage, session_id: str) -> None:
        self.longest_s = 0.0
        self._over = threading.Event()
        self._stage = stage
        self._path = f"/api/chat/session/{session_id}/events?after=0&limit=5"
        self._thread = threading.Thread(target=self._poll)

    def _poll(self) -> None:
        while not self._over.wait(0.25):
            begun = time.monotonic()
            self._stage.deployment.call("GET", self._path)
            self.longest_s = max(self.longest_s, time.monotonic() - begun)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@contextmanager
def stages(database: str, folder: Path, scale: float) -> Iterator[Stage]:
    agents = folder / "isolation-agents.toml"
    names = [f"{culprits.__name__}:{tool.__name__}" for tool in culprits.TOOLS]
    agents.write_text(f'[[agents]]\nid = 1\nname = "Tester"\ntools = {json.dumps(names)}\n')
    maria = MariaDB(folder / "mariadb").start() if database == "mariadb" else None
    broker = (EmbeddedBroker if maria is None else RedisServer)(folder / "broker").start()
    try:
        with (
            ModelServer.start() as innocents,
            culprits.provider() as url,
            Deployment(
                folder / database,
                database=maria,
                broker=broker,
                model_server=innocents,
                orchestrator="benchmarks.culprits:answer",
                agents_file=agents,
                culprit_url=url,
                culprit_scale=scale,
            ) as deployment,
        ):
            stage = Stage(deployment, innocents)
            stage.start()
            yield stage
    finally:
        broker.kill9()
        if maria is not None:
            maria.kill9()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="rows whose name has this in it")
    parser.add_argument("--database", choices=("sqlite", "mariadb"), action="append")
    parser.add_argument("--scale", type=float, default=1.0, help="of sizes, counts and times")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds until memory is compared")
    parser.add_argument("--list", action="store_true", help="name the rows")
    options = parser.parse_args()
    chosen = [row for row in ROWS if not options.only or any(part in row.name for part in options.only)]
    if options.list or not chosen:
        print("\n".join(row.name for row in ROWS))
        sys.exit(not options.list)
    culprits.SCALE = options.scale
    folder = Path(tempfile.mkdtemp(prefix="isolation-", dir=memory()))
    guard.remove(folder)
    broken = 0
    for database in options.database or ("sqlite", "mariadb"):
        own = folder / database
        own.mkdir()
        with stages(database, own, options.scale) as stage:
            print(HEAD, flush=True)
            # Memory is compared with that of workers that have worked before.
            measure(stage, ROWS[0], database, 0.0)
            for row in chosen:
                if database in row.databases:
                    found = measure(stage, row, database, options.settle)
                    broken += bool(found.breaches)
                    print(found.line(), flush=True)
    preloaded.close()
    guard.close()
    if broken:
        sys.exit(f"{broken} rows do not hold; logs in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
