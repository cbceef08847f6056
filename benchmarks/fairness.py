"""What one owner with hundreds of sessions costs another one: `python -m benchmarks.fairness`.

The same deployment twice: first the loud owner has as many sessions as it may run at once, then 600, and sends fifty
times its limit of messages a minute. Another owner sends one message after the other meanwhile and polls it. The times
of the second part may be 1.5 times those of the first.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from app import access
from tests.servers import MariaDB, RedisServer
from tests.stack import Stack
from worker.orchestrator import Turn

SECRET = "f" * 32
#: Sessions of the loud owner that run at once, and places of the worker.
RUNNING, PLACES = 50, 100
SESSIONS = 600
POSTS_PER_MINUTE = 600
#: How long a session of the loud owner takes, and for how long each part is measured.
TURN_S, PART_S = 30.0, 20.0
ALLOWED = 1.5


async def answer(turn: Turn) -> AsyncIterator[str]:
    """The orchestrator of the worker: a loud message is answered for a while."""
    yield "begun "
    if turn.message == "loud":
        for _ in range(int(TURN_S / 0.25)):
            await asyncio.sleep(0.25)
            yield "word "


class Client:
    """One owner's connection."""

    def __init__(self, port: int, owner: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {
            "Authorization": f"Bearer {access.issue(SECRET, owner)}", "Content-Type": "application/json"
        }  # fmt: skip

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, self._headers)
        response = self._connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None

    def post(self, message: str) -> tuple[int, Any]:
        return self.call("POST", "/api/chat/session", {"message": message})


def quiet(port: int) -> tuple[list[float], list[float]]:
    """Until the first event of each message, and of each poll, in seconds."""
    client = Client(port, "quiet")
    first_events, polls = [], []
    until = time.monotonic() + PART_S
    while time.monotonic() < until:
        begun = time.monotonic()
        status, started = client.post("short")
        assert status == 202, started
        path = f"/api/chat/session/{started['sessionId']}/events?after="
        after = 0
        while True:
            asked = time.monotonic()
            status, page = client.call("GET", f"{path}{after}")
            polls.append(time.monotonic() - asked)
            assert status == 200, page
            if page["events"] and not after:
                first_events.append(time.monotonic() - begun)
            after = page["nextAfter"]
            if page["status"] != "running":
                break
            time.sleep(0.02)
    return first_events, polls


def loud(port: int, stop: threading.Event) -> dict[int, int]:
    """Send fifty times the limit; how often each status was answered."""
    client = Client(port, "loud")
    answered: dict[int, int] = {}
    pause_s = 60 / (50 * POSTS_PER_MINUTE)
    while not stop.wait(pause_s):
        status, _ = client.post("loud")
        answered[status] = answered.get(status, 0) + 1
    return answered


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        template = MariaDB(folder / "template").data
        database = MariaDB(folder / "database", template=template).start()
        broker = RedisServer(folder / "redis").start()
        stack = Stack(
            folder,
            DATABASE_URL=database.create_database("fairness"),
            REDIS_URL=broker.url,
            CHAT_SECRET=SECRET,
            ORCHESTRATOR="benchmarks.fairness:answer",
            WORKER_CONCURRENCY=str(PLACES),
            MAX_RUNNING_PER_OWNER=str(RUNNING),
            POSTS_PER_MINUTE=str(POSTS_PER_MINUTE),
        )
        try:
            stack.start()
            return measure(stack.port)
        finally:
            stack.stop()
            broker.kill9()
            database.kill9()


def measure(port: int) -> int:
    sender = Client(port, "loud")
    for _ in range(RUNNING):
        sender.post("loud")
    few = shown(f"{RUNNING} sessions of another owner", quiet(port))
    for _ in range(SESSIONS - RUNNING):
        sender.post("loud")
    stop = threading.Event()
    flood = threading.Thread(target=lambda: print("loud owner was answered", loud(port, stop)))
    flood.start()
    many = shown(f"{SESSIONS} and a flood of posts", quiet(port))
    stop.set()
    flood.join()
    ratios = [after / before for before, after in zip(few, many, strict=True)]
    print(f"ratios: first event {ratios[0]:.2f}, poll p95 {ratios[1]:.2f}; allowed {ALLOWED}")
    return 0 if max(ratios) <= ALLOWED else 1


def shown(what: str, times: tuple[list[float], list[float]]) -> tuple[float, float]:
    first_events, polls = times
    first, poll = statistics.median(first_events), statistics.quantiles(polls, n=20)[18]
    worst = max(first_events)
    print(
        f"{what}: first event {first * 1000:.0f} ms (worst {worst * 1000:.0f}), poll p95 {poll * 1000:.1f} ms,"
        f" {len(first_events)} messages"
    )
    return first, poll


if __name__ == "__main__":
    sys.exit(main())
