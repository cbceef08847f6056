"""200 sessions on a provider that takes 20 requests a second and answers 429 with `Retry-After` above that.

    python -m benchmarks.limited_provider
    python -m benchmarks.limited_provider --sessions 100 --limit 5 --retry-after 2 --requests 3

A worker of its own on SQLite and the embedded broker. Prints how the sessions ended, how many of the provider's answers
were 429, in all and from the tenth second on, and how long sessions took beside their median; fails where that is too
many or too long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from aiohttp import web

from app import db, sessions
from app.broker.queue import TurnQueue
from app.db import schema
from app.db.models import Session
from tests.servers import EmbeddedBroker, Process, free_port

#: No more than this share of the provider's answers may be refusals, and no session may take so much of the median.
MOST_REFUSED, MOST_OF_MEDIAN = 0.25, 3.0


class Provider:
    """Takes *limit* requests in any second; each answer takes *answer_s*. Every session asks *requests* times."""

    def __init__(self, limit: int, retry_after: str, answer_s: float, requests: int) -> None:
        self._limit, self._retry_after, self._answer_s, self._requests = limit, retry_after, answer_s, requests
        self._recent: deque[float] = deque()
        #: When each request came, and whether it was taken.
        self.answers: list[tuple[float, bool]] = []
        self.port = free_port()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        web.run_app(app, host="127.0.0.1", port=self.port, handle_signals=False, print=None, access_log=None)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        now = time.monotonic()
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
        taken = len(self._recent) < self._limit
        self.answers.append((now, taken))
        if not taken:
            return web.json_response(
                {"error": {"message": "slow down"}}, status=429, headers={"Retry-After": self._retry_after}
            )
        self._recent.append(now)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(self._answer_s)
        calls = sum(message["role"] == "tool" for message in asked["messages"])
        delta: dict[str, Any] = {"content": "Yes."}
        if calls < self._requests - 1:
            function = {"name": "calculate", "arguments": '{"expression": "6*7"}'}
            delta = {"tool_calls": [{"index": 0, "id": f"call-{calls}", "function": function}]}
        for choice in ({"index": 0, "delta": delta}, {"index": 0, "delta": {}, "finish_reason": "stop"}):
            await response.write(b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


def run(arguments: argparse.Namespace, queue: TurnQueue) -> list[float]:
    """Post the sessions and wait for their ends; how long each took."""
    new = [sessions.NewSession("local", f"message {n}", 1, "openai-chat:m") for n in range(arguments.sessions)]
    ids = [sessions.create(each).session_id for each in new]
    rung_at = {}
    for session_id in ids:
        rung_at[session_id] = time.time()
        queue.ring(session_id, 0)
    while Session.select().where(Session.status == "running").exists():
        time.sleep(0.25)
    failed = [session.error_code for session in Session.select().where(Session.status != "done")]
    assert not failed, f"{len(failed)} sessions failed: {set(failed)}"
    ended = db.tuples(Session.select(Session.session_id, Session.ended_at))
    return [at.timestamp() - rung_at[session_id] for session_id, at in ended]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--limit", type=int, default=20, help="requests that the provider takes in a second")
    parser.add_argument("--retry-after", default="1", help="what it says when it takes none")
    parser.add_argument("--answer", type=float, default=0.5, help="seconds that an answer takes")
    parser.add_argument("--requests", type=int, default=1, help="model requests of a session")
    arguments = parser.parse_args()
    provider = Provider(arguments.limit, arguments.retry_after, arguments.answer, arguments.requests)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = EmbeddedBroker(folder / "broker").start()
        try:
            url = f"sqlite:///{folder / 'limited.db'}"
            db.open_database(url)
            schema.migrate()
            environment = {
                "DATABASE_URL": url,
                "REDIS_URL": broker.url,
                "OPENAI_BASE_URL": f"http://127.0.0.1:{provider.port}/v1",
                "WORKER_CONCURRENCY": str(arguments.sessions),
            }
            with Process.python("-m", "worker", log=folder / "worker.log", environment=environment) as process:
                process.wait_for_line("worker started")
                took_s = run(arguments, TurnQueue(broker.url))
        finally:
            broker.kill9()
    begun = provider.answers[0][0]
    everything = [taken for _, taken in provider.answers]
    later = [taken for at, taken in provider.answers if at >= begun + 10] or [True]
    refused, refused_later = everything.count(False) / len(everything), later.count(False) / len(later)
    median = statistics.median(took_s)
    print(f"{arguments.sessions} sessions of {arguments.requests} requests, {arguments.limit} requests/s: all done")
    print(
        f"429: {everything.count(False)} of {len(everything)} answers ({refused:.0%}), after 10 s {refused_later:.0%}"
    )
    print(
        f"sessions took {median:.1f} s (median), {max(took_s):.1f} s at most ({max(took_s) / median:.2f} × the median)"
    )
    assert refused_later <= MOST_REFUSED
    assert max(took_s) <= MOST_OF_MEDIAN * median


if __name__ == "__main__":
    main()
