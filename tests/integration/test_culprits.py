"""A session that kills its worker, or blocks its loop, is found; those beside it end as if it were not there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app import db
from app.broker.queue import TurnQueue
from app.db import schema
from tests.factories import events_of, make_session, row
from tests.preloaded import PreloadedProcess
from tests.servers import ROOT, Process, wait_until

INNOCENTS = 24


@pytest.fixture
def deployment(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts workers on an empty database."""
    db.open_database(database_url)
    schema.migrate()
    workers: list[Process] = []
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "ORCHESTRATOR": "tests.sample_orchestrators:deadly",
        "PYTHONPATH": str(ROOT),
        "DEADLY_DONE": str(tmp_path / "done"),
        "LEASE_S": "3",
        "SWEEP_S": "0.5",
        "STOP_GRACE_S": "1",
    }

    def start(*, machine: str = "here") -> Process:
        log = tmp_path / f"worker-{len(workers)}.log"
        worker: Process
        if machine == "here":
            worker = PreloadedProcess("worker", log=log, environment=environment)
        else:
            # Its notes are in a folder that nobody else sees.
            (folder := tmp_path / machine).mkdir()
            worker = Process.python("-m", "worker", log=log, environment=environment | {"TMPDIR": str(folder)})
        workers.append(worker.start())
        return worker

    yield start
    for worker in workers:
        worker.kill9()
    db.database.close_all() if hasattr(db.database, "close_all") else db.database.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("database_url", "redis_url", "harm", "machine"),
    [
        ("sqlite", "embedded", "kill", "here"),
        ("sqlite", "embedded", "block", "here"),
        ("mariadb", "redis", "exit on a thread", "here"),
        ("mariadb", "redis", "exit", "elsewhere"),
    ],
    indirect=["database_url", "redis_url"],
)
def test_a_session_that_kills_its_worker_ends_alone_and_those_beside_it_lose_no_attempt(
    deployment: Callable[..., Process], redis_url: str, tmp_path: Path, harm: str, machine: str
) -> None:
    first = deployment(machine=machine)
    first.wait_for_line("worker started")
    queue = TurnQueue(redis_url)
    innocents = [make_session(message="innocent") for _ in range(INNOCENTS)]
    for session_id in innocents:
        queue.ring(session_id, 0)
    wait_until(lambda: all(row(each).checkpoint for each in innocents), "all of them run")
    culprit = make_session(message=harm)
    queue.ring(culprit, 0)

    began = time.monotonic()
    wait_until(lambda: not first.alive, "the death of the worker")
    second = deployment()
    wait_until(lambda: all(row(each).attempt > 1 for each in innocents), "all of them are resumed")
    assert time.monotonic() - began < 15 + 3
    wait_until(lambda: row(culprit).status == "error", "the end of the culprit")
    (tmp_path / "done").touch()
    wait_until(lambda: all(row(each).status == "done" for each in innocents), "the ends of the innocents")

    assert row(culprit).error_code == "worker_lost"
    assert row(culprit).attempt - row(culprit).handbacks == 3
    assert row(culprit).final_response == "half, "
    for session_id in innocents:
        session = row(session_id)
        assert (session.attempt - session.handbacks, session.final_response) == (1, "half, whole")
    # Of an attempt that died at once nothing was stored.
    causes = {event["cause"] for each in innocents for event in events_of(each) if "cause" in event}
    assert {"here": "loop blocked" if harm == "block" else "worker died"}.get(machine, "worker frozen") in causes
    assert second.alive
    assert second.stop() == 0
