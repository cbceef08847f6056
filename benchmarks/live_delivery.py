"""Thousands of held requests in one web process: how late after the commit is the last of them served?

    python -m benchmarks.live_delivery [--waits 2000] [--streams 2000] [--sessions 50]

Starts a private Redis, MariaDB and one gunicorn process (gevent), holds the requests over all sessions, commits one
event to each session (one flush), and prints how long after that commit the answers came, and the process's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil

from app import database, recording, schema, sessions
from app.events import Delta
from app.heads import Head, Heads
from app.redis_client import open_redis
from tests.servers import MariaDB, Process, RedisServer, free_port


class Held:
    """The requests that are held, and when each was served."""

    def __init__(self, base: str, session_ids: list[str]) -> None:
        self._base = base
        self._session_ids = session_ids
        self.ready = 0
        self.served: list[float] = []

    async def wait(self, http: aiohttp.ClientSession, number: int) -> None:
        url = f"{self._base}/api/chat/session/{self._session_ids[number % len(self._session_ids)]}/events"
        self.ready += 1
        page: dict[str, object] = {"events": []}
        while not page["events"]:
            async with http.get(url, params={"after": "0", "wait": "25"}) as response:
                page = await response.json()
        self.served.append(time.time())

    async def stream(self, http: aiohttp.ClientSession, number: int) -> None:
        url = f"{self._base}/api/chat/session/{self._session_ids[number % len(self._session_ids)]}/stream"
        async with http.get(url) as response:
            assert response.status == 200
            self.ready += 1
            async for line in response.content:
                if line.startswith(b"data:"):
                    self.served.append(time.time())
                    return


async def run(arguments: argparse.Namespace, base: str, heads: Heads, web: psutil.Process) -> None:
    claims = []
    for number in range(arguments.sessions):
        created = sessions.create(sessions.NewSession("local", f"message {number}", 1, "demo"))
        claim = sessions.claim(created.session_id, "bench", lease_s=600, max_attempts=3, turn_timeout_s=900)
        assert claim is not None
        claims.append(claim)
    held = Held(base, [claim.session_id for claim in claims])
    total = arguments.waits + arguments.streams
    before = web.memory_info().rss
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http:
        tasks = [asyncio.create_task(held.stream(http, n)) for n in range(arguments.streams)]
        while held.ready < arguments.streams:
            await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(held.wait(http, n)) for n in range(arguments.waits)]
        while len(web.net_connections("tcp")) < total + 1:
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)  # the last ones pass from accepted to held; a benchmark, no test
        rss = web.memory_info().rss
        cpu = sum(web.cpu_times()[:2])

        def commit() -> float:
            outcomes = recording.record([sessions.Batch(claim, 0, [Delta("news")]) for claim in claims])
            heads.publish(
                Head(c.session_id, c.owner, o.last_seq, o.status, time.time())
                for c, o in zip(claims, outcomes, strict=True)
            )
            return time.time()

        committed = await asyncio.to_thread(commit)
        await asyncio.gather(*tasks)
    late = sorted(max(0.0, moment - committed) * 1000 for moment in held.served)
    print(f"held: {arguments.waits} waits and {arguments.streams} streams of {len(claims)} sessions in one process")
    print(f"served after the commit: median {statistics.median(late):.0f} ms, last {late[-1]:.0f} ms")
    print(f"memory: {before / 2**20:.0f} MiB before, {rss / 2**20:.0f} MiB holding "
          f"({(rss - before) / total / 1024:.1f} KiB a request)")  # fmt: skip
    print(f"CPU for serving them: {sum(web.cpu_times()[:2]) - cpu:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waits", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--sessions", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis, maria = RedisServer(folder / "redis").start(), MariaDB(folder / "mariadb").start()
        try:
            url = maria.create_database("live")
            database.open_database(url)
            schema.migrate()
            port = free_port()
            web = Process.python(
                "-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app",
                log=folder / "web.log",
                environment={"DATABASE_URL": url, "REDIS_URL": redis.url, "PORT": str(port), "HOST": "127.0.0.1"},
            )  # fmt: skip
            with web:
                web.wait_for_line("Booting worker")
                worker = psutil.Process(web.pid).children()[0]
                asyncio.run(run(arguments, f"http://127.0.0.1:{port}", Heads(open_redis(redis.url)), worker))
        finally:
            redis.kill9()
            maria.kill9()


if __name__ == "__main__":
    main()
