"""The processes of a run: started in order, watched, stopped in order."""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import quote, urlsplit

from redis.exceptions import RedisError

from app import db
from app.broker.client import open_redis
from app.broker.queue import TurnQueue
from app.db import heartbeats
from app.errors import BackchatError, QueueUnavailable
from app.settings import Settings, environment_with

from .addresses import require_free, require_redis
from .child import Child
from .errors import Failed, Stopped

#: Everything that a run leaves on disk is below it.
VAR = Path("var")
#: There while a worker runs: for whoever wants to see what its death does.
WORKER_PID = VAR / "worker.pid"
START_LIMIT_S = 60.0
LOOK_S = 1.0
#: The path of a unix socket has 108 bytes at most, 104 on some systems.
_LONGEST_SOCKET = 100
#: Beyond the worker's grace period.
STOP_LIMIT_S = 15.0
#: A worker that lived for less died of its start, and the next one may as well.
SHORT_LIFE_S = 10.0
LONGEST_PAUSE_S = 30.0


class Run:
    """The processes of one run, in the order they were started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._children: list[Child] = []
        self._folders = contextlib.ExitStack()
        self._short_lives = 0
        #: When the worker is started again; None: it runs.
        self._worker_due: float | None = None
        #: Ended children and signals, as they come.
        self._news: queue.SimpleQueue[Child | int] = queue.SimpleQueue()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: self._news.put(number))

    def start(self) -> None:
        """Start everything; returns when the API answers and a worker is there.

        Raises:
            Failed: something could not be started.
            Stopped: the user did not wait.
        """
        require_free(self._settings.host, self._settings.port)
        if self._settings.redis_url:
            require_redis(self._settings.redis_url)
        redis_url = self._settings.redis_url or self._start_broker()
        # Web and workers see the same, also those that are started when the file has changed.
        environment = self._environment = environment_with(REDIS_URL=redis_url, ENV_FILE=os.devnull)
        self._migrate(environment)
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app"]
        self._start("web", gunicorn, environment)
        self._start_worker()
        self._until(self._healthy, "the API")
        # The first message must not wait while the worker still imports its engine.
        self._until(partial(_has_worker, TurnQueue(redis_url)), "the worker")

    def wait(self) -> None:
        """Return when the user stops the run; until then a worker that dies is started again.

        Raises:
            Failed: another process ended.
        """
        with contextlib.suppress(Stopped):
            while True:
                # Not for ever: a signal that interrupts another thread is heard when this one wakes up.
                left_s = LOOK_S if self._worker_due is None else self._worker_due - time.monotonic()
                if left_s <= 0 and self._news.empty():
                    self._start_worker()
                    continue
                if self._look(min(max(left_s, 0.0), LOOK_S), ends=self._worker):
                    self._worker_died()

    def stop(self) -> None:
        """End all of them, the broker last; another Ctrl-C on the way makes them hurry."""
        if self._children:
            print("stopping; Ctrl-C again: at once", flush=True)
        brokers = [child for child in self._children if child.name == "broker"]
        self._end([child for child in self._children if child not in brokers])
        self._end(brokers)
        self._folders.close()
        # Of this run: another one in the same folder may have kept this one from starting.
        if any(child.name == "worker" for child in self._children):
            WORKER_PID.unlink(missing_ok=True)

    def _end(self, children: list[Child]) -> None:
        deadline = time.monotonic() + self._settings.stop_grace_s + STOP_LIMIT_S
        for child in children:
            child.signal(signal.SIGTERM)
        while any(child.running for child in children) and time.monotonic() < deadline:
            try:
                news = self._news.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if not isinstance(news, Child):
                for child in children:
                    child.signal(signal.SIGTERM)
        for child in children:
            child.kill_group()

    def _start(self, name: str, command: list[str], environment: dict[str, str], log: int | None = None) -> Child:
        child = Child(name, command, environment, self._news, log)
        self._children.append(child)
        return child

    def _start_worker(self) -> None:
        self._worker = self._start("worker", [sys.executable, "-m", "worker"], self._environment)
        self._worker_due = None
        with _file(WORKER_PID, "wb") as file:
            file.write(b"%d\n" % self._worker.process.pid)

    def _worker_died(self) -> None:
        """Say how, and when the next one is started, which resumes its sessions."""
        worker = self._worker
        self._children.remove(worker)
        WORKER_PID.unlink(missing_ok=True)
        # The servers of its tools.
        worker.kill_group()
        # Those on other machines need not wait for a lease.
        with contextlib.suppress(BackchatError):
            db.open_database(self._settings.database_url)
            heartbeats.mark_reaped()
        self._short_lives = self._short_lives + 1 if worker.lived_s < SHORT_LIFE_S else 0
        pause_s = worker_pause_s(self._short_lives)
        self._worker_due = time.monotonic() + pause_s
        when = f"in {pause_s:.0f} s" if pause_s else "now"
        print(f"make run: the worker {worker.end}; another one is started {when}", file=sys.stderr, flush=True)

    def _start_broker(self) -> str:
        folder = (VAR / "broker").resolve()
        path = self._socket_in(folder)
        server = shutil.which("redis-server") or shutil.which("valkey-server")
        if server:
            listen = ("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "600")
            command = [server, *listen, "--dir", str(folder), "--save", ""]
        else:
            command = [sys.executable, "-m", "app.broker.embedded", str(path)]
        with _file(folder / "broker.log", "ab") as log:
            self._start("broker", command, environment_with(), log.fileno())
        url = f"unix://{quote(str(path))}"
        client = open_redis(url)

        def answers() -> bool:
            with contextlib.suppress(RedisError):
                return bool(client.ping())
            return False

        self._until(answers, f"the broker (its log: {folder / 'broker.log'})")
        client.close()
        return url

    def _socket_in(self, folder: Path) -> Path:
        """Where the broker listens, for this user alone: it asks for no password, and workers do what it says."""
        if len(os.fsencode(folder / "socket")) > _LONGEST_SOCKET:
            return Path(self._folders.enter_context(tempfile.TemporaryDirectory(prefix="backchat-"))) / "socket"
        # What can't be written is told by the log, which stands there as well.
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        return folder / "socket"

    def _migrate(self, environment: dict[str, str]) -> None:
        migration = self._start("migrate", [sys.executable, "-m", "app.cli", "migrate"], environment)
        self._until(lambda: not migration.running, "the migration", ends=migration)
        self._children.remove(migration)
        if migration.process.returncode:
            raise Failed("the database could not be migrated")

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection(urlsplit(self._settings.local_url).netloc, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _until(self, ready: Callable[[], bool], what: str, *, ends: Child | None = None) -> None:
        pause_s = 0.05
        for _ in range(int(START_LIMIT_S / pause_s)):
            if ready():
                return
            self._look(pause_s, ends=ends)
        raise Failed(f"{what} did not answer within {START_LIMIT_S:.0f} s")

    def _look(self, timeout_s: float, *, ends: Child | None = None) -> bool:
        """Wait for news: True when *ends* has ended, False when there is none; any other is an exception."""
        try:
            news = self._news.get(timeout=timeout_s)
        except queue.Empty:
            return False
        if not isinstance(news, Child):
            raise Stopped
        if news is not ends and news in self._children:
            raise Failed(f"{news.name} ended with status {news.process.returncode}")
        return news is ends


def worker_pause_s(short_lives: int) -> float:
    """How long to wait before a worker is started again that has died so many times in a row soon after its start."""
    return min(2.0 ** (short_lives - 2), LONGEST_PAUSE_S) if short_lives > 1 else 0.0


def _has_worker(queue: TurnQueue) -> bool:
    try:
        return queue.workers() > 0
    except QueueUnavailable:
        return False


def _file(path: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open(mode)
    except OSError as error:
        raise Failed(f"{path} can't be written: {error.strerror}") from error
