"""Thousands of held requests in one web process: how late after the commit is the last of them served?

    python -m benchmarks.live_delivery [--waits 2000] [--streams 2000] [--sessions 50] [--spread 0]

Starts a private Redis, MariaDB and one gunicorn process (gevent), holds the requests over all sessions, commits one
event to each session in one flush (or, with --spread, one session after the other over so many seconds), and prints how
long after the commit of its session each answer had arrived, and the process's memory. The clients are bare sockets
under epoll, so that the clients are not what is measured.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from app import db, sessions
from app.broker.client import open_redis
from app.broker.heads import Head, Heads
from app.db import schema
from app.events import Delta
from app.sessions import claims, commit
from app.sessions.claims import Claim
from tests.servers import MariaDB, Process, RedisServer, free_port

#: Nothing here may take longer.
PATIENCE_S = 60.0
HEAD_REFRESH_S = 0.4
_EVENT = b'"content":"news"'


@dataclass
class Client:
    """One held request on a connection of its own."""

    session: int
    path: str
    connection: socket.socket
    received: bytearray = field(default_factory=bytearray)
    served_at: float = 0.0


class Clients:
    """All held requests, watched by one loop."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self.clients: list[Client] = []

    def ask(self, session: int, path: str) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        client = Client(session, path, connection)
        self.clients.append(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def run_until(self, finished: Callable[[], bool], what: str) -> None:
        """Receive until *finished*.

        Raises:
            RuntimeError: it took too long, or a request failed.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not finished():
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {PATIENCE_S} s: {what}")
            for key, _ in self._selector.select(0.2):
                self._receive(key.data)

    def _receive(self, client: Client) -> None:
        data = client.connection.recv(65536)
        now = time.time()
        client.received += data
        if not data or not client.received.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{client.path}: {bytes(client.received[:500])!r}")
        if not client.served_at and _EVENT in client.received:
            client.served_at = now

    @property
    def served(self) -> int:
        return sum(client.served_at > 0 for client in self.clients)

    def close(self) -> None:
        for client in self.clients:
            client.connection.close()


class Worker:
    """Stands for the worker that runs the sessions: keeps their heads fresh, and commits events."""

    def __init__(self, held: list[Claim], heads: Heads) -> None:
        self._claims = held
        self._heads = heads
        self._seqs = [0] * len(held)
        self._ended = threading.Event()
        #: When the news of each session was committed.
        self.committed: dict[int, float] = {}
        self._thread = threading.Thread(target=self._refresh_for_ever)
        self._thread.start()

    def _refresh_for_ever(self) -> None:
        while not self._ended.wait(HEAD_REFRESH_S):
            self._publish(range(len(self._claims)), news=False)

    def _publish(self, numbers: Iterable[int], *, news: bool) -> None:
        held = self._claims
        self._heads.publish(
            [Head(held[n].session_id, held[n].owner, self._seqs[n], "running", time.time()) for n in numbers],
            news=news,
        )

    def commit(self, spread_s: float) -> None:
        """One event in each session: in one flush, or one session after the other."""
        numbers = range(len(self._claims))
        flushes = [[number] for number in numbers] if spread_s else [list(numbers)]
        began = time.monotonic()
        for turn, flush in enumerate(flushes):
            time.sleep(max(0.0, began + turn * spread_s / len(flushes) - time.monotonic()))
            commit.commit([commit.Batch(self._claims[number], 0, [Delta("news")]) for number in flush])
            now = time.time()
            for number in flush:
                self._seqs[number] = 1
                self.committed[number] = now
            self._publish(flush, news=True)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def start_sessions(count: int) -> list[Claim]:
    held = []
    for number in range(count):
        created = sessions.create(sessions.NewSession("local", f"message {number}", 1, "demo"))
        [claim], _ = claims.take([created.session_id], "bench", max_attempts=3, turn_timeout_s=900)
        held.append(claim)
    return held


def run(arguments: argparse.Namespace, port: int, held: list[Claim], worker: Worker, web: psutil.Process) -> None:
    total = arguments.waits + arguments.streams
    before = web.memory_info().rss
    clients = Clients(port)
    began = time.monotonic()
    for number in range(total):
        session = number % len(held)
        path = f"/api/chat/session/{held[session].session_id}/"
        clients.ask(session, path + ("stream" if number < arguments.streams else "events?wait=25"))
    idle = Idle(web)
    clients.run_until(idle.reached, "all requests held")
    print(f"accepted within {time.monotonic() - began:.1f} s")
    rss = web.memory_info().rss
    cpu = sum(web.cpu_times()[:2])

    committer = threading.Thread(target=worker.commit, args=(arguments.spread,))
    committer.start()
    clients.run_until(lambda: clients.served == total, "all requests served")
    committer.join()
    cpu = sum(web.cpu_times()[:2]) - cpu
    clients.close()
    late = sorted((client.served_at - worker.committed[client.session]) * 1000 for client in clients.clients)
    how = f"over {arguments.spread} s" if arguments.spread else "in one commit"
    print(f"held: {arguments.waits} waits and {arguments.streams} streams in one process")
    print(f"news for {len(held)} sessions {how}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"served after the commit: median {statistics.median(late):.0f} ms, "
          f"99 % {late[int(len(late) * 0.99)]:.0f} ms, last {late[-1]:.0f} ms")  # fmt: skip
    print(f"memory: {before / 2**20:.0f} MiB before, {rss / 2**20:.0f} MiB holding "
          f"({(rss - before) / total / 1024:.1f} KiB a request)")  # fmt: skip
    print(f"CPU of the web process for serving them: {cpu:.2f} s")


class Idle:
    """The web process has taken in what it was sent: it uses little CPU for a second."""

    def __init__(self, web: psutil.Process) -> None:
        self._web = web
        self._looked_at = time.monotonic()
        self._cpu = sum(web.cpu_times()[:2])

    def reached(self) -> bool:
        if time.monotonic() - self._looked_at < 1:
            return False
        cpu, before = sum(self._web.cpu_times()[:2]), self._cpu
        self._looked_at, self._cpu = time.monotonic(), cpu
        return cpu - before < 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waits", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--spread", type=float, default=0.0, help="seconds over which the sessions' commits come")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis, maria = RedisServer(folder / "redis").start(), MariaDB(folder / "mariadb").start()
        try:
            url = maria.create_database("live")
            db.open_database(url)
            schema.migrate()
            port = free_port()
            web = Process.python(
                "-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app",
                log=folder / "web.log",
                environment={"DATABASE_URL": url, "REDIS_URL": redis.url, "PORT": str(port), "HOST": "127.0.0.1"},
            )  # fmt: skip
            with web:
                web.wait_for_line("Booting worker")
                held = start_sessions(arguments.sessions)
                worker = Worker(held, Heads(open_redis(redis.url)))
                try:
                    run(arguments, port, held, worker, psutil.Process(web.pid).children()[0])
                finally:
                    worker.end()
                    print(web.output[-3000:] if "ERROR" in web.output else "", end="")
        finally:
            redis.kill9()
            maria.kill9()


if __name__ == "__main__":
    main()
