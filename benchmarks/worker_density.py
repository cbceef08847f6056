"""One worker process, hundreds of sessions at once, all of it real: database, broker, model server, worker.

    python -m benchmarks.worker_density                                     # 300 sessions, 5 tokens/s, 10 s each
    python -m benchmarks.worker_density --sessions 200 --rate 20 --seconds 5
    python -m benchmarks.worker_density --database sqlite --broker embedded

Prints when the last session's first text came beside when the first session ended, how long all of them took beside
the length of one, and the worker's CPU time and memory.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from app import db, sessions
from app.broker.queue import QUEUE_NAME, TurnQueue
from app.db import schema
from app.db.models import Event, Session
from tests.model_server import ModelServer
from tests.servers import EmbeddedBroker, MariaDB, Process, RedisServer


def script(rate: float, seconds: float) -> dict[str, Any]:
    repeat = {"text": "token {i} ", "count": int(rate * seconds), "every": 1 / rate}
    return {"answers": [{"steps": [{"repeat": repeat}]}], "record": False}


def measure(arguments: argparse.Namespace, worker: psutil.Process, queue: TurnQueue, model: str) -> dict[str, float]:
    """Post the sessions, wait for their ends, and say what came of it; times in seconds."""
    ids = [
        sessions.create(sessions.NewSession("local", f"message {n}", 1, f"openai-chat:{model}")).session_id
        for n in range(arguments.sessions)
    ]
    before = sum(worker.cpu_times()[:2])
    started = time.monotonic()
    for session_id in ids:
        queue.ring(session_id, 0)
    peak = 0
    while Session.select().where(Session.status == "running").exists():
        peak = max(peak, worker.memory_info().rss)
        time.sleep(0.25)
    took = time.monotonic() - started
    first_text = Event.select(Event.session_id, Event.created_at).where(
        (Event.event_type == "delta") & (Event.seq <= 3)
    )
    texts: dict[str, datetime] = {}
    for session_id, moment in db.tuples(first_text.order_by(Event.seq.desc())):
        texts[session_id] = moment
    ends = [moment for (moment,) in db.tuples(Session.select(Session.ended_at))]
    failed = Session.select().where(Session.status != "done").count()
    assert not failed, f"{failed} sessions failed"
    assert len(texts) == arguments.sessions
    return {
        "took_s": took,
        "last_first_text_before_first_end_s": (min(ends) - max(texts.values())).total_seconds(),
        "cpu_s": sum(worker.cpu_times()[:2]) - before,
        "peak_mib": peak / 2**20,
    }


def stock_session_mib(environment: dict[str, str], folder: Path, queue: TurnQueue, model: str) -> float:
    """Memory that one session takes under the stock `rq worker`: what its work-horse shares with nobody."""
    arguments = ("-m", "rq.cli", "worker", "--url", environment["REDIS_URL"], "--serializer", "json", QUEUE_NAME)
    with Process.python(*arguments, log=folder / "stock.log", environment=environment) as process:
        process.wait_for_line("Listening on")
        created = sessions.create(sessions.NewSession("local", "message", 1, f"openai-chat:{model}"))
        queue.ring(created.session_id, 0)
        session = Session.session_id == created.session_id
        peak = 0
        while Session.select().where(session & (Session.status == "running")).exists():
            for horse in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    peak = max(peak, horse.memory_full_info().uss)
            time.sleep(0.1)
    return peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=300)
    parser.add_argument("--rate", type=float, default=5, help="tokens per second and session")
    parser.add_argument("--seconds", type=float, default=10, help="length of one answer")
    parser.add_argument("--database", choices=("mariadb", "sqlite"), default="mariadb")
    parser.add_argument("--broker", choices=("redis", "embedded"), default="redis")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ModelServer.start(processes=2) as server:
        folder = Path(name)
        broker = RedisServer if arguments.broker == "redis" else EmbeddedBroker
        redis = broker(folder / "broker").start()
        maria = MariaDB(folder / "mariadb").start() if arguments.database == "mariadb" else None
        try:
            url = maria.create_database("density") if maria else f"sqlite:///{folder / 'density.db'}"
            db.open_database(url)
            schema.migrate()
            environment = {
                "DATABASE_URL": url,
                "REDIS_URL": redis.url,
                "OPENAI_API_KEY": "key",
                "MODELS": "openai-chat:*",
                "OPENAI_BASE_URL": server.url,
                "WORKER_CONCURRENCY": str(arguments.sessions),
            }
            with Process.python("-m", "worker", log=folder / "worker.log", environment=environment) as process:
                process.wait_for_line("worker started")
                worker = psutil.Process(process.pid)
                idle_mib = worker.memory_info().rss / 2**20
                model = server.add(script(arguments.rate, arguments.seconds))
                found = measure(arguments, worker, TurnQueue(redis.url), model)
            stock_mib = stock_session_mib(environment, folder, TurnQueue(redis.url), model)
        finally:
            redis.kill9()
            if maria:
                maria.kill9()
    print(
        f"{arguments.sessions} sessions, {arguments.rate:g} tokens/s for {arguments.seconds:g} s,"
        f" {arguments.database}, broker: {arguments.broker}"
    )
    print(f"all done after {found['took_s']:.1f} s ({found['took_s'] / arguments.seconds:.2f} × one of them)")
    print(f"the last one's first text came {found['last_first_text_before_first_end_s']:.1f} s before the first end")
    print(f"worker: {found['cpu_s']:.1f} s of CPU ({arguments.sessions / found['cpu_s']:.1f} sessions per CPU second), "
          f"{idle_mib:.0f} MiB idle, {found['peak_mib']:.0f} MiB at the peak "
          f"({(found['peak_mib'] - idle_mib) / arguments.sessions * 1024:.0f} KiB a session)")  # fmt: skip
    ours_mib = found["peak_mib"] / arguments.sessions
    print(
        f"stock rq worker: {stock_mib:.0f} MiB a session, one process each ({stock_mib / ours_mib:.0f} × ours, all in)"
    )


if __name__ == "__main__":
    main()
