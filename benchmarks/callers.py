"""What callers without a token cost the others: `/healthz` beside large bodies, idle connections and half bodies.

    python -m benchmarks.callers [--rounds 30] [--idle 10000] [--half-s 35]

Runs one web process with a secret on SQLite, and no worker. Each round asks for `/healthz` for a second in which
nothing else happens, and for another at whose beginning eight callers without a token post 1 MiB of unknown fields at
once, from a process of their own. Exit status 1: the slowest twentieth took twice as long, or a half body stayed open.
An idle connection that keeps `/healthz` from answering raises.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

from app import access
from tests.servers import Process, free_port, wait_until

CALLERS = 8
#: Pause between two questions.
EVERY_S = 0.005
#: Of one body.
BYTES = 1 << 20
_SECRET = "k1:a key of the benchmark, which has over 32 bytes"
_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def head(length: int, *headers: str) -> bytes:
    """The head of a message with a body of so many bytes."""
    lines = ("POST /api/chat/session HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers)
    return "\r\n".join((*lines, f"Content-Length: {length}", "", "")).encode()


def fields() -> bytes:
    """A megabyte of JSON, of fields that nobody knows."""
    text = json.dumps({f"x{number:05}": 1 for number in range(BYTES // 11)}, separators=(",", ":")).encode()
    return text[:-1] + b" " * (BYTES - len(text)) + text[-1:]


def post(port: int, request: bytes) -> bytes:
    """The status line that *request* is answered with, on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        # It may be answered, and the connection closed, before all of it was sent.
        with suppress(OSError):
            connection.sendall(request)
        with suppress(OSError):
            return connection.recv(65536).partition(b"\r\n")[0]
    return b"no answer"


def callers(port: int) -> None:
    """For each line that comes, post eight bodies at once; then say how they were answered."""
    body = fields()
    request = head(len(body)) + body
    with ThreadPoolExecutor(CALLERS) as threads:
        for _ in sys.stdin:
            answers = set(threads.map(lambda _: post(port, request), range(CALLERS)))
            print(" and ".join(sorted(answer.decode() for answer in answers)), flush=True)


class Prober:
    """Asks for `/healthz` on one connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=30)

    def ask(self) -> float:
        """How long the answer took, in milliseconds."""
        began = time.perf_counter()
        self._connection.sendall(_HEALTH)
        answer = b""
        while not answer.endswith(b"}\n"):
            more = self._connection.recv(65536)
            if not more:
                raise ConnectionError(f"no answer but {answer!r}")
            answer += more
        took = time.perf_counter() - began
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return took * 1000

    def ask_often(self, count: int) -> list[float]:
        return [self.ask() for _ in range(count)]

    def ask_for(self, seconds: float) -> list[float]:
        """Every five milliseconds; an answer that holds up later questions counts for each of them."""
        began = time.perf_counter()
        took = []
        for number in range(int(seconds / EVERY_S)):
            due = began + number * EVERY_S
            time.sleep(max(due - time.perf_counter(), 0))
            self.ask()
            took.append((time.perf_counter() - due) * 1000)
        return took


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def beside_bodies(port: int, rounds: int) -> bool:
    """Print what eight bodies cost; whether the slowest twentieth took less than twice as long."""
    prober = Prober(port)
    prober.ask_often(50)
    command = [sys.executable, "-m", "benchmarks.callers", "--callers-of", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        to, of = other.stdin, other.stdout
        assert to is not None
        assert of is not None
        answers: set[str] = set()
        idle: list[float] = []
        beside: list[float] = []

        def bodies_at_once() -> threading.Thread:
            to.write("\n")
            to.flush()
            waiting = threading.Thread(target=lambda: answers.add(of.readline().strip()))
            waiting.start()
            return waiting

        bodies_at_once().join()
        for _ in range(rounds):
            idle += prober.ask_for(1.0)
            waiting = bodies_at_once()
            beside += prober.ask_for(1.0)
            waiting.join()
        to.close()
    ratio = p95(beside) / p95(idle)
    print(f"eight bodies of 1 MiB at once, without a token: {', '.join(sorted(answers))}")
    for what, took in (("idle", idle), ("beside them", beside)):
        print(f"  /healthz {what}: p95 {p95(took):.2f} ms, longest {max(took):.2f} ms of {len(took)}")
    print(f"  {ratio:.2f} times, less than 2 is allowed")
    return ratio < 2


def beside_connections(port: int, wanted: int) -> None:
    """Print what idle connections cost, of which the machine may allow fewer than are *wanted*."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(wanted, most - 200)
    prober = Prober(port)
    without = p95(prober.ask_often(200))
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        beside = p95(prober.ask_often(200))
        fresh = Prober(port).ask()
    print(f"{count} idle connections: p95 of /healthz {beside:.2f} ms, without them {without:.2f} ms")
    print(f"  on a new connection {fresh:.2f} ms")


def half_bodies_are_dropped(port: int, patience_s: float) -> bool:
    """Print what becomes of a body whose second half does not come; whether its connection was closed."""
    callers = {"without a token": (), "with a token": (f"Authorization: Bearer {access.issue(_SECRET, 'anna')}",)}
    ended = {}
    with ExitStack() as stack:
        connections = {
            who: stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=patience_s))
            for who in callers
        }
        began = time.monotonic()
        for who, headers in callers.items():
            connections[who].sendall(head(100, *headers) + b'{"message"')
        for who, connection in connections.items():
            try:
                status = connection.recv(65536).split(b" ")[1].decode()
                while connection.recv(65536):
                    pass
                ended[who] = f"{status} and closed after {time.monotonic() - began:.0f} s"
            except TimeoutError:
                ended[who] = f"open after {patience_s:.0f} s"
    print("half a body: " + "; ".join(f"{who} {how}" for who, how in ended.items()))
    return all("closed" in how for how in ended.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--idle", type=int, default=10_000, help="connections")
    parser.add_argument("--half-s", type=float, default=35.0, help="patience with half bodies; 0: leave them out")
    parser.add_argument("--callers-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.callers_of:
        callers(options.callers_of)
        return
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, port = Path(name), free_port()
        environment = {
            "DATABASE_URL": f"sqlite:///{folder / 'backchat.db'}", "REDIS_URL": "redis://127.0.0.1:1/0",
            "CHAT_SECRET": _SECRET, "PORT": str(port), "LOG_LEVEL": "ERROR",
        }  # fmt: skip
        with Process.python("-m", "app.cli", "migrate", log=folder / "migrate.log", environment=environment) as made:
            assert made.wait() == 0, made
        web = ("-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app")
        stack.enter_context(Process.python(*web, log=folder / "web.log", environment=environment))
        wait_until(lambda: _answers(port), "the API answers")
        good = beside_bodies(port, options.rounds)
        beside_connections(port, options.idle)
        if options.half_s:
            good &= half_bodies_are_dropped(port, options.half_s)
    sys.exit(not good)


def _answers(port: int) -> bool:
    try:
        Prober(port).ask()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
