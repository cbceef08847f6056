"""Everything in one for development: `python -m app.dev`, or `make run`.

Starts a broker where `REDIS_URL` names none, migrates, starts web and worker, and stops all of them together: on
Ctrl-C, on SIGTERM, when one of them ends, and also when this process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import queue
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from . import logs
from .broker.client import open_redis
from .broker.queue import TurnQueue
from .errors import QueueUnavailable
from .settings import Settings, environment_with

#: Everything that a run leaves on disk is below it.
VAR = Path("var")
START_LIMIT_S = 60.0
LOOK_S = 1.0
#: Beyond the worker's grace period.
STOP_LIMIT_S = 15.0
#: Systems give outgoing connections ports from 32768 on, or higher ones.
_PORTS = range(15_000, 32_000)

# The kernel ends the child with its parent; asked for in the child, as its parent may be gone by then.
_TRAMPOLINE = """
import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
except (AttributeError, OSError):
    pass  # not Linux
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Failed(Exception):
    """It can't go on; the text says why."""


class Stopped(Exception):
    """The user asked to stop."""


class Child:
    """One process of the run."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        news: queue.SimpleQueue[Child | int],
        log: int | None = None,
    ) -> None:
        self.name = name
        trampoline = [sys.executable, "-I", "-c", _TRAMPOLINE, str(os.getpid())]
        self.process = subprocess.Popen(  # noqa: S603 - our own programs
            [*trampoline, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C must reach this process alone, which then stops the others in order.
            start_new_session=True,
        )
        threading.Thread(target=self._wait, args=(news,), daemon=True).start()

    def _wait(self, news: queue.SimpleQueue[Child | int]) -> None:
        self.process.wait()
        news.put(self)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        # Already gone is what it should become.
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill_group(self) -> None:
        """End what it may have left in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Run:
    """The processes of one run, in the order they were started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._children: list[Child] = []
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
        environment = environment_with(REDIS_URL=redis_url)
        self._migrate(environment)
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app"]
        self._start("web", gunicorn, environment)
        self._start("worker", [sys.executable, "-m", "worker"], environment)
        self._until(self._healthy, "the API")
        # The first message must not wait while the worker still imports its engine.
        self._until(partial(_has_worker, TurnQueue(redis_url)), "the worker")

    def wait(self) -> None:
        """Return when the user stops the run.

        Raises:
            Failed: a process ended.
        """
        with contextlib.suppress(Stopped):
            while True:
                # Not for ever: a signal that interrupts another thread is heard when this one wakes up.
                self._look(LOOK_S)

    def stop(self) -> None:
        """End all of them, the broker last; another Ctrl-C on the way makes them hurry."""
        if self._children:
            print("stopping; Ctrl-C again: at once", flush=True)
        brokers = [child for child in self._children if child.name == "broker"]
        self._end([child for child in self._children if child not in brokers])
        self._end(brokers)

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

    def _start_broker(self) -> str:
        folder = (VAR / "broker").resolve()
        port = free_port()
        server = shutil.which("redis-server") or shutil.which("valkey-server")
        if server:
            command = [server, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
        else:
            command = [sys.executable, "-m", "app.broker.embedded", "--port", str(port)]
        with _log_file(folder / "broker.log") as log:
            self._start("broker", command, environment_with(), log.fileno())
        url = f"redis://127.0.0.1:{port}/0"
        client = open_redis(url)

        def answers() -> bool:
            with contextlib.suppress(RedisError):
                return bool(client.ping())
            return False

        self._until(answers, f"the broker (its log: {folder / 'broker.log'})")
        client.close()
        return url

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

    def _look(self, timeout_s: float, *, ends: Child | None = None) -> None:
        """Wait for news; every one but the end of *ends* is an exception."""
        try:
            news = self._news.get(timeout=timeout_s)
        except queue.Empty:
            return
        if not isinstance(news, Child):
            raise Stopped
        if news is not ends and news in self._children:
            raise Failed(f"{news.name} ended with status {news.process.returncode}")


def _has_worker(queue: TurnQueue) -> bool:
    try:
        return queue.workers() > 0
    except QueueUnavailable:
        return False


def _log_file(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError as error:
        raise Failed(f"{path} can't be written: {error.strerror}") from error


def require_redis(url: str) -> None:
    """Return when the Redis that the user named answers.

    Raises:
        Failed: it does not, or the URL is none.
    """
    advice = "set REDIS_URL right, or leave it empty: then a broker is brought along"
    try:
        with open_redis(url) as client:
            client.ping()
    except (RedisError, ValueError) as error:
        raise Failed(f"the Redis of REDIS_URL can't be used: {str(error).rstrip('.')}; {advice}") from error


def require_free(host: str, port: int) -> None:
    """Return when nobody listens there.

    Raises:
        Failed: somebody does, or the address can't be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As gunicorn will: connections of an earlier run that still close are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError as error:
            raise Failed(f"PORT={port} is no port: they end at 65535") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Failed(
                    f"port {port} is in use, perhaps by another `make run`; stop it, or choose another: PORT={port + 1}"
                ) from error
            raise Failed(f"{host}:{port} can't be used: {error.strerror}") from error


def free_port() -> int:
    """A loopback port that nobody listens on right now and that no outgoing connection is given.

    One of those would take the port while its server is away, or connect to itself there.
    """
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def greeting(settings: Settings) -> str:
    """What to try first."""
    url = settings.local_url
    # With a secret nobody gets in without a token, nor do these lines.
    token = (
        f"\n  TOKEN=$({sys.executable} -m app.cli token you)  # here, with the same CHAT_SECRET"
        if settings.chat_secret
        else ""
    )
    bearer = ' -H "Authorization: Bearer $TOKEN"' if settings.chat_secret else ""
    json_type = "-H 'Content-Type: application/json'"
    return f"""
Backchat runs at {url}
Its API is described at {url}/docs
{token}
  curl -s {url}/api/chat/session{bearer} {json_type} -d '{{"message": "What time is it in Tokyo?"}}'
  curl -s{bearer} '{url}/api/chat/session/SESSION_ID/events?after=0'

Ctrl-C stops it.
"""


def main() -> int:
    """Run until stopped; exit status 0 when the user stopped it, 1 when something failed."""
    # Before the settings are read: what they warn of has to be seen.
    logs.configure("WARNING")
    settings = Settings.from_environment()
    run = Run(settings)
    try:
        run.start()
        print(greeting(settings), flush=True)
        run.wait()
    except Stopped:
        return 0
    except Failed as error:
        print(f"make run: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        run.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
