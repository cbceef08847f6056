"""What a poll costs: an idle one and one with a page of events, beside an empty Flask view.

    python -m benchmarks.polling [--polls 2000] [--rounds 5]

Runs the web application in this process, as a gunicorn worker would call it, on a private Redis and MariaDB, and takes
the CPU time of this process: what a poll takes from the other requests of its web process. The ratios to the empty view
of the same run are what counts; each number is the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.test import create_environ

from app import access, db, sessions
from app.api import create_app
from app.broker.client import open_redis
from app.broker.heads import Head, Heads
from app.db import schema
from app.events import Delta
from app.sessions import claims, commit
from app.settings import Settings
from tests.servers import MariaDB, RedisServer

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

EVENTS = 20
_SECRET = "k1:a key of the benchmark, which has over 32 bytes"
#: Heads live for a second; a round must not outlive them.
REFRESH_EVERY = 200


class Poll:
    """One request that is made again and again."""

    def __init__(self, name: str, application: Application, path: str, *, refresh: Callable[[], None], **headers: str):
        self.name = name
        self._application = application
        self._environ = create_environ(path, headers=headers)
        self._refresh = refresh
        self.us: list[float] = []

    def run(self, count: int) -> None:
        """*count* requests one after the other; notes the CPU time of one."""
        spent = 0.0
        for start in range(0, count, REFRESH_EVERY):
            self._refresh()
            before = time.process_time()
            for _ in range(min(REFRESH_EVERY, count - start)):
                self._request()
            spent += time.process_time() - before
        self.us.append(spent / count * 1e6)

    def _request(self) -> None:
        statuses: list[str] = []
        answer = self._application(dict(self._environ), lambda status, headers, error=None: statuses.append(status))
        b"".join(answer)
        close = getattr(answer, "close", None)
        if close is not None:
            close()
        assert statuses[0][:3] in ("200", "304"), statuses


def empty() -> Application:
    application = Flask("empty")

    @application.get("/")
    def view() -> str:
        return ""

    return application  # type: ignore[return-value]


def measure(arguments: argparse.Namespace, settings: Settings) -> None:
    application: Any = create_app(settings)
    guarded: Any = create_app(replace(settings, chat_secret=_SECRET))
    heads = Heads(open_redis(settings.redis_url))
    created = sessions.create(sessions.NewSession("local", "message", 1, "demo"))
    [claim], _ = claims.take([created.session_id], "bench", max_attempts=3, turn_timeout_s=900)
    commit.commit([commit.Batch(claim, 0, [Delta(f"some words of an answer {n} ") for n in range(EVENTS)])])
    waiting = sessions.create(sessions.NewSession("local", "message", 1, "demo")).session_id

    def refresh() -> None:
        heads.publish([Head(claim.session_id, "local", EVENTS, "running", time.time())])

    token = access.issue(_SECRET, "local")
    events = f"/api/chat/session/{claim.session_id}/events?after="
    bare = Poll("empty Flask view", empty(), "/", refresh=refresh)
    polls = [
        bare,
        Poll("idle poll", application, f"{events}{EVENTS}", refresh=refresh),
        Poll("idle poll, takes gzip", application, f"{events}{EVENTS}", refresh=refresh, Accept_Encoding="gzip"),
        Poll("idle poll, token", guarded, f"{events}{EVENTS}", refresh=refresh, Authorization=f"Bearer {token}"),
        Poll("idle poll, 304", application, f"{events}{EVENTS}", refresh=refresh,
             If_None_Match=f'W/"running-{EVENTS}-0-0"'),
        Poll("idle poll of a waiting session", application, events.replace(claim.session_id, waiting) + "0",
             refresh=refresh),
        Poll(f"page of {EVENTS} events", application, f"{events}0", refresh=refresh),
        Poll(f"page of {EVENTS} events, gzip", application, f"{events}0", refresh=refresh, Accept_Encoding="gzip"),
    ]  # fmt: skip
    for poll in polls:
        poll.run(REFRESH_EVERY)
        poll.us.clear()
    for _ in range(arguments.rounds):
        for poll in polls:
            poll.run(arguments.polls)
    base = statistics.median(bare.us)
    for poll in polls:
        us = statistics.median(poll.us)
        print(f"{poll.name:32} {us:6.0f} µs  {us / base:5.1f} ×")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polls", type=int, default=2000, help="requests of each kind in a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis, maria = RedisServer(folder / "redis").start(), MariaDB(folder / "mariadb").start()
        try:
            url = maria.create_database("polling")
            db.open_database(url)
            schema.migrate()
            measure(arguments, Settings(database_url=url, redis_url=redis.url))
        finally:
            redis.kill9()
            maria.kill9()


if __name__ == "__main__":
    main()
