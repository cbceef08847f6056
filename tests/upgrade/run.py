"""The upgrade itself, in the order of docs/deploy.md, and the verdict."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql

from app import db
from app.conversations import search
from app.conversations.messages import of_session
from app.db.models import Session
from tests.conftest import close_all
from tests.servers import MariaDB, Process, RedisServer, environment_of, free_port, wait_until

from . import older, paced
from .traffic import CLIENTS, Asked, Traffic

SECRET = "of-both-versions-0123456789abcdef"
#: Longest that a request may be refused, or wait.
REFUSED_S, WAITED_S = 2.0, 10.0
WORKERS = WEBS = 2
_BETWEEN_S = 4.0
#: Reads that are left open while tables change: one for long, then many short ones.
_LONG_READ_S, _SHORT_READ_S, _READ_PAUSE_S = 6.0, 0.5, 1.5


class Version:
    """How processes of one version are started."""

    def __init__(self, name: str, python: str, code: Path, folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self._python = python
        self._code = code
        self._folder = folder
        self._environment = environment | {"PYTHONPATH": f"{code}:{Path(__file__).parent}"}

    def process(self, name: str, *arguments: str, **environment: str) -> Process:
        return Process(
            [self._python, *arguments],
            log=self._folder / f"{name}-{self.name}-{time.time_ns()}.log",
            environment=environment_of(self._environment | environment),
            cwd=self._code,
        )

    def migrate(self) -> str:
        """Returns what it printed."""
        with self.process("migrate", "-m", "app.cli", "migrate").start() as migration:
            assert migration.wait(86_400) == 0, migration.output
            return migration.output

    def worker(self) -> Process:
        return self.process("worker", "-m", "worker").start()

    def web(self, port: int) -> Process:
        web = self.process("web", "-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app", PORT=str(port))
        web.start()
        wait_until(lambda: _status(port, "/readyz") == 200, f"the web process of {self.name} is ready")
        return web

    def tokens(self, owners: list[str]) -> dict[str, str]:
        """Its own tokens: an older version does not know those of a newer one."""
        script = "import json, sys; from app.access import issue; secret, *owners = sys.argv[1:]; "
        script += "print(json.dumps({owner: issue(secret, owner) for owner in owners}))"
        command = [self._python, "-c", script, SECRET, *owners]
        environment = environment_of(self._environment)
        found = subprocess.run(command, env=environment, cwd=self._code, check=True, stdout=subprocess.PIPE)
        tokens: dict[str, str] = json.loads(found.stdout)
        return tokens


def _status(port: int, path: str) -> int:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status
    return 0


class Deployment:
    """Workers and web processes, replaced one by one."""

    def __init__(self, version: Version, stack: ExitStack) -> None:
        self.ports = [free_port() for _ in range(WEBS)]
        self.workers = [version.worker() for _ in range(WORKERS)]
        self.webs = [version.web(port) for port in self.ports]
        stack.callback(self.kill)

    def replace_workers(self, version: Version) -> None:
        for number in range(WORKERS):
            self.workers[number].stop()
            self.workers[number] = version.worker()
            time.sleep(_BETWEEN_S)

    def replace_webs(self, version: Version) -> None:
        for number, port in enumerate(self.ports):
            self.webs[number].stop()
            self.webs[number] = version.web(port)
            time.sleep(1)

    def kill(self) -> None:
        for process in (*self.workers, *self.webs):
            process.kill9()


@contextmanager
def open_reads(server: MariaDB, database: str) -> Any:
    """Somebody reads every table, and does not end the transaction for a while; again and again."""
    over = threading.Event()

    def read() -> None:
        pause = _LONG_READ_S
        with server.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW TABLES")
            tables = [name for (name,) in cursor.fetchall()]
            while not over.is_set():
                # Behind a change that goes on, it waits like everybody else.
                with suppress(pymysql.err.OperationalError):
                    cursor.execute("START TRANSACTION")
                    for table in tables:
                        cursor.execute(f"SELECT 1 FROM `{table}` LIMIT 1")
                    over.wait(pause)
                cursor.execute("ROLLBACK")
                over.wait(_READ_PAUSE_S)
                pause = _SHORT_READ_S

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def upgrade(commit: str, sessions: int, python: str, folder: Path) -> list[str]:
    """Go from *commit* to this code under load, back, and here again. Returns what was wrong."""
    with ExitStack() as stack:
        server, redis = MariaDB(folder / "mariadb").start(), RedisServer(folder / "redis").start()
        stack.callback(redis.kill9)
        stack.callback(server.kill9)
        server.execute("SET GLOBAL innodb_buffer_pool_size = 536870912")
        url = server.create_database("upgraded")
        environment = {
            "DATABASE_URL": url,
            "REDIS_URL": redis.url,
            "CHAT_SECRET": SECRET,
            "ORCHESTRATOR": "paced:answer",
            "STOP_GRACE_S": "1",
            "LOG_LEVEL": "INFO",
        }
        old = Version("old", python, older.check_out(commit, folder / "old"), folder, environment)
        new = Version("new", sys.executable, Path(__file__).parents[2], folder, environment)
        print(_timed("old schema", lambda: old.migrate()))
        opened = db.open_database(url, answer_s=3600)
        stack.callback(close_all, opened)
        known: list[tuple[str, str]] = []
        _timed(f"{sessions} sessions stored", lambda: known.extend(older.fill(sessions)))

        deployment = Deployment(old, stack)
        tokens = old.tokens(sorted({owner for owner, _ in known} | {f"client{number}" for number in range(CLIENTS)}))
        traffic = Traffic(tokens, deployment.ports, known)
        traffic.start()
        try:
            time.sleep(_BETWEEN_S)
            with open_reads(server, "upgraded"):
                print(_timed("migrated beside the old version", lambda: new.migrate()))
            assert [_status(port, "/readyz") for port in deployment.ports] == [200] * WEBS, "the old version is ready"
            _timed("new workers", lambda: deployment.replace_workers(new))
            _timed("new web processes", lambda: deployment.replace_webs(new))
            time.sleep(_BETWEEN_S)
            _timed("old web processes again", lambda: deployment.replace_webs(old))
            _timed("old workers again", lambda: deployment.replace_workers(old))
            time.sleep(_BETWEEN_S)
            _timed("new workers again", lambda: deployment.replace_workers(new))
            _timed("new web processes again", lambda: deployment.replace_webs(new))
            time.sleep(_BETWEEN_S)
        finally:
            _timed("all answered", traffic.stop)
        return [*verdict(traffic), *left_behind()]


def _timed(what: str, work: Any) -> Any:
    begun = time.monotonic()
    result = work()
    print(f"{time.monotonic() - begun:7.1f} s  {what}", flush=True)
    return result


def verdict(traffic: Traffic) -> list[str]:
    """What was wrong with what clients met with, and with what is stored of it."""
    print(f"\n{'request':10} {'count':>7} {'longest s':>10} {'refused s':>10}")
    wrong = list(traffic.wrong)
    for kind, met in sorted(traffic.met.items()):
        print(f"{kind:10} {met.count:7} {met.longest_s:10.2f} {met.refused_s:10.2f}")
        if met.refused_s > REFUSED_S:
            wrong.append(f"{kind} was refused for {met.refused_s:.1f} s")
        if met.longest_s > WAITED_S:
            wrong.append(f"{kind} waited for {met.longest_s:.1f} s")
    print(f"{len(traffic.asked)} sessions were accepted", flush=True)
    for asked in traffic.asked:
        wrong += _of(asked)
    return wrong


def _of(asked: Asked) -> list[str]:
    row = db.reading(lambda: Session.get_or_none(Session.session_id == asked.session_id))
    if row is None:
        return [f"{asked.session_id} is lost"]
    whole = paced.whole(asked.message)
    said = [message["content"] for message in of_session(asked.owner, asked.session_id).rows]
    found = [result["sessionId"] for result in search.search(asked.owner, asked.message).rows]
    return [
        f"{asked.session_id} ({asked.message}): {what}"
        for what, ok in {
            f"it is {row.status} {row.error_code}": row.status == "done",
            f"its answer is {row.final_response!r}": row.final_response == whole,
            f"{row.attempt} attempts, {row.handbacks} handed back": row.attempt - row.handbacks == 1,
            f"its messages are {said!r}": said == [asked.message, whole],
            f"search finds {found!r}": found == [asked.session_id],
        }.items()
        if not ok
    ]


def left_behind() -> list[str]:
    """Rows that lack what this version gives them."""
    ownerless = "SELECT COUNT(*) FROM chatMessages WHERE owner = ''"
    with db.connected():
        ((count,),) = db.sql(ownerless).fetchall()
    return [f"{count} messages have no owner"] if count else []
