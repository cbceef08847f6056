"""A whole deployment of real processes on loopback, each of which a test may kill, freeze and start again."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from tests.chaos import tools
from tests.chaos.verdict import Stored
from tests.model_server import ModelServer
from tests.preloaded import PreloadedProcess
from tests.servers import PATIENCE_S, EmbeddedBroker, MariaDB, Process, RedisServer, free_port, wait_until

#: Name of the database on a MariaDB, unless the deployment is given another one.
DATABASE = "chaos"
#: Requests to a process that was just killed or frozen end after this.
REQUEST_S = 20.0


@dataclass(frozen=True)
class Answer:
    """What an HTTP request got; `status` 0: no answer."""

    status: int
    body: Any = None
    headers: Any = None


class Web(Process):
    """One gunicorn with one process, on a port of its own that survives restarts."""

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        made = Process.python(
            *("-m", "gunicorn", "-c", "python:tests.crash.gunicorn_conf", "app.wsgi:app"),
            log=log,
            environment=environment | {"PORT": str(self.port)},
        )
        super().__init__(made.arguments, log=log, environment=made.environment, cwd=made.cwd)

    def wait_ready(self) -> Self:
        wait_until(lambda: self._answers(), f"{self.url} serves")
        return self

    def _answers(self) -> bool:
        assert self.alive, self
        return self.call("GET", "/healthz", timeout_s=2.0).status == 200

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = REQUEST_S,
    ) -> Answer:
        """One request; whatever the server says is an answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"} | (headers or {}), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:
                raw = response.read()
                return Answer(response.status, json.loads(raw) if raw else None, response.headers)
        except urllib.error.HTTPError as error:
            with error:
                raw = error.read()
                return Answer(error.code, json.loads(raw) if raw else None, error.headers)
        except OSError:
            return Answer(0)


class Deployment:
    """Use it as a context; everything that it started ends with it.

    Args:
        folder: For logs, the SQLite database and the tools' record.
        database: None: SQLite.
        name: Of its database there.
        settings: Of web and workers, as keywords in lower case.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database: MariaDB | None,
        broker: RedisServer | EmbeddedBroker,
        model_server: ModelServer,
        name: str = DATABASE,
        **settings: object,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.database = database
        self.broker = broker
        self.model_server = model_server
        self.name = name
        self.calls_file = folder / "calls.jsonl"
        #: Where the hook of its processes takes its orders (`tests.crash.hook`).
        self.points = folder / "points"
        self.points.mkdir()
        self.webs: list[Web] = []
        self.workers: list[Process] = []
        #: Those of them that have the deployment's own settings.
        self._plain: list[Process] = []
        self._numbers = count()
        self._stack = ExitStack()
        agents = folder / "agents.toml"
        names = [f"{tools.__name__}:{tool.__name__}" for tool in tools.TOOLS]
        agents.write_text(f'[[agents]]\nid = 1\nname = "Tester"\ntools = {json.dumps(names)}\n')
        url = f"sqlite:///{folder / 'backchat.db'}" if database is None else database.url(name)
        self.environment = {
            "DATABASE_URL": url,
            "REDIS_URL": broker.url,
            "OPENAI_BASE_URL": model_server.url,
            "OPENAI_API_KEY": "secret-key",
            "MODELS": "openai-chat:*",
            "AGENTS_FILE": str(agents),
            "CHAOS_CALLS": str(self.calls_file),
            "CRASH_FOLDER": str(self.points),
            **{name.upper(): str(value) for name, value in settings.items()},
        }

    def __enter__(self) -> Self:
        if self.database is not None:
            self.database.drop_database(self.name)
            self.database.create_database(self.name)
        migrate = Process.python(
            "-m", "app.cli", "migrate", log=self.folder / "migrate.log", environment=self.environment
        )
        with migrate:
            assert migrate.wait() == 0, migrate
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start_web(self) -> Web:
        web = Web(self.folder / f"web-{len(self.webs)}.log", self.environment)
        self.webs.append(self._stack.enter_context(web))
        return web.wait_ready()

    def start_worker(self, *arguments: str, **settings: object) -> Process:
        """`python -m worker`, or `python` with *arguments*; it may take seconds until it takes sessions."""
        environment = self.environment | {name.upper(): str(value) for name, value in settings.items()}
        log = self.folder / f"worker-{next(self._numbers)}.log"
        if arguments and arguments[0] != "-m":
            worker = Process.python(*arguments, log=log, environment=environment)
        else:
            worker = PreloadedProcess(*(arguments[1:] or ("worker",)), log=log, environment=environment)
        self.workers.append(worker)
        if not arguments and not settings:
            self._plain.append(worker)
        return self._stack.enter_context(worker)

    def worker(self) -> Process:
        """The one worker of this deployment, with its settings: another test's, or a new one."""
        self.end_workers(but=1)
        return self.workers[0] if self.workers else self.start_worker()

    def end_workers(self, but: int = 0) -> None:
        """Kill them, but leave so many that have the deployment's own settings."""
        kept = [worker for worker in self._plain if worker.alive][:but]
        for worker in self.workers:
            if worker not in kept:
                worker.kill9()
        self.workers, self._plain = list(kept), list(kept)

    def freeze(self, worker: Process, *, between_transactions: bool = False) -> None:
        """Stop a worker as a hung machine would, but not inside a write to SQLite: nobody could write then.

        It is not handed on to other tests. With *between_transactions* it holds no lock on MariaDB either; else it may,
        and whoever wants the row waits until the server ends its transaction.
        """
        if worker in self._plain:
            self._plain.remove(worker)
        worker.pause()
        while not self.can_be_written() if self.database is None else between_transactions and self._is_written():
            worker.resume()
            time.sleep(0.01)
            worker.pause()

    def _is_written(self) -> bool:
        assert self.database is not None
        with self.database.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM information_schema.innodb_trx")
            return cursor.fetchone() != (0,)

    def can_be_written(self) -> bool:
        """False: somebody holds the lock of SQLite."""
        with closing(sqlite3.connect(self.folder / "backchat.db", timeout=0.5, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            return True

    def clear(self) -> None:
        """End all sessions, and all workers but one: the next test may want it."""
        self.end_workers(but=1)
        while running := self.call("GET", "/api/chat/sessions?status=running&limit=100").body["sessions"]:
            for session in running:
                self.cancel(session["sessionId"])
        self.redis("flushall")

    def forget_all(self) -> None:
        """Empty the database, and the tools' record."""
        self.end_workers()
        with closing(self.connect()) as connection:
            for table in ("Sessions", "Events", "Messages", "Conversations", "Search", "AgentEvents", "AgentCounts"):
                connection.cursor().execute(f"DELETE FROM chat{table}")
        self.calls_file.unlink(missing_ok=True)

    def redis(self, command: str, *arguments: Any) -> Any:
        """One command to the broker."""
        with redis.Redis.from_url(self.broker.url) as client:
            return client.execute_command(command, *arguments)

    # What a client does, through any web process that answers

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        return next(web for web in self.webs if web.alive).call(method, path, body, headers)

    def post(self, model: str, key: str | None = None, **fields: Any) -> Answer:
        headers = {} if key is None else {"Idempotency-Key": key}
        body = {"message": "Go.", "model": f"openai-chat:{model}"} | fields
        return self.call("POST", "/api/chat/session", body, headers)

    def start_session(self, model: str, **fields: Any) -> str:
        answer = self.post(model, **fields)
        assert answer.status == 202, answer
        return str(answer.body["sessionId"])

    def session(self, session_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"/api/chat/session/{session_id}")
        assert answer.status == 200, answer
        return dict(answer.body)

    def cancel_answer(self, session_id: str) -> Answer:
        return self.call("POST", f"/api/chat/session/{session_id}/cancel")

    def cancel(self, session_id: str) -> dict[str, Any]:
        answer = self.cancel_answer(session_id)
        assert answer.status == 200, answer
        return dict(answer.body)

    def events(self, session_id: str) -> list[dict[str, Any]]:
        """All of them, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            answer = self.call("GET", f"/api/chat/session/{session_id}/events?after={after}&limit=1000")
            assert answer.status == 200, answer
            found += answer.body["events"]
            if not answer.body["hasMore"]:
                return found

    def wait_for_event(
        self, session_id: str, wanted: Callable[[dict[str, Any]], bool], what: str, timeout_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        """The first event that *wanted* holds for, once it can be polled."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [event for event in self.events(session_id) if wanted(event)]
            return bool(found)

        try:
            wait_until(look, what, timeout_s)
        except AssertionError as error:
            error.add_note(f"{self.session(session_id)}\n{self.workers}")
            raise
        return found[0]

    def wait_for_text(self, session_id: str, attempt: int = 1, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        return self.wait_for_event(
            session_id,
            lambda event: event["eventType"] == "delta" and event["attempt"] >= attempt,
            f"text of attempt {attempt}",
            timeout_s,
        )

    def wait_ended(self, session_id: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        wait_until(lambda: self.session(session_id)["status"] != "running", f"end of {session_id}", timeout_s)
        return self.session(session_id)

    def calls(self, session_id: str | None = None, what: str = "began") -> list[dict[str, Any]]:
        """What the tools wrote down, oldest first."""
        if not self.calls_file.exists():
            return []
        lines = [json.loads(line) for line in self.calls_file.read_text().splitlines()]
        return [line for line in lines if line["what"] == what and session_id in (None, line["sessionId"])]

    def settled(self, session_id: str, for_s: float = 1.5) -> list[dict[str, Any]]:
        """The events of a session, of which none may come for a while: a proof of silence has to wait for it."""
        before = self.events(session_id)
        time.sleep(for_s)
        after = self.events(session_id)
        assert after == before
        return after

    def stored(self) -> Stored:
        """All that the database and the tools' record hold."""
        if self.database is not None:
            wait_until(lambda: self.database is not None and self.database.connect(), "the database answers")
        with closing(self.connect()) as connection:

            def rows(query: str) -> list[dict[str, Any]]:
                cursor = connection.cursor()
                cursor.execute(query)
                names = [column[0] for column in cursor.description]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

            counts = rows("SELECT eventType, CAST(SUM(n) AS SIGNED) AS n FROM chatAgentCounts GROUP BY eventType")
            return Stored(
                sessions=rows("SELECT * FROM chatSessions ORDER BY id"),
                events=rows("SELECT * FROM chatEvents ORDER BY id"),
                messages=rows("SELECT * FROM chatMessages ORDER BY id"),
                history=rows("SELECT * FROM chatAgentEvents ORDER BY rowId"),
                counts={row["eventType"]: row["n"] for row in counts if row["n"]},
                calls=self.calls(),
            )

    def connect(self) -> Any:
        if self.database is not None:
            return self.database.connect(self.name)
        return sqlite3.connect(self.folder / "backchat.db", timeout=10, isolation_level=None)
