"""Whoever writes to Redis runs nothing here: no pickle is loaded, nothing that a job names is called or posted to."""

from __future__ import annotations

import asyncio
import inspect
import json
import pickle
import re
import zlib
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fakeredis import FakeRedis
from redis import Redis
from rq.job import Job

from app.broker.jobs import SessionJob, rings_for
from app.broker.queue import TurnQueue
from tests.integration.test_session_worker import Sessions, eventually, left_by_a_dead_worker, working
from worker.run_session import run_session

RAN = Path("/nowhere")


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return open, (str(self.mark), "w")


def called(*_: object) -> None:
    """What a job names as its callback; it must not be called."""
    RAN.touch()


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tests.integration.test_hostile_jobs.RAN", tmp_path / "ran")
    return tmp_path / "ran"


CALLBACK = f"{__name__}.called"
#: Field of a job's hash → what somebody has put there.
HOSTILE: dict[str, Callable[[Path], dict[str, bytes | str]]] = {
    "data": lambda mark: {"data": pickle.dumps(Evil(mark))},
    "compressed data": lambda mark: {"data": zlib.compress(pickle.dumps(Evil(mark)))},
    "meta": lambda mark: {"meta": pickle.dumps(Evil(mark))},
    "result": lambda mark: {"result": pickle.dumps(Evil(mark))},
    "exception": lambda mark: {"exc_info": zlib.compress(pickle.dumps(Evil(mark)))},
    "on success": lambda _: {"success_callback_name": CALLBACK},
    "on failure": lambda _: {"failure_callback_name": CALLBACK},
    "when stopped": lambda _: {"stopped_callback_name": CALLBACK},
    "dependencies": lambda mark: {"dependency_ids": json.dumps(["evil"])},
    "what an older process wrote": lambda _: {
        "data": zlib.compress(pickle.dumps(("worker.run_session.run_session", None, ("a",), {}))),
        "meta": pickle.dumps({}),
    },
}


@pytest.mark.parametrize("field", HOSTILE)
def test_a_waiting_job_runs_its_session_and_nothing_else(redis_url: str, mark: Path, field: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        with Redis.from_url(redis_url) as client:
            bell.ring("a", 0)
            client.hset("rq:job:a-0", mapping=HOSTILE[field](mark))
            client.xadd("rq:results:a-0", {"return_value": b64encode(pickle.dumps(Evil(mark))), "type": 1})

            async with working(redis_url, sessions):
                await sessions.until(lambda: sessions.running == ["a"])
                sessions.let_go("a")
                await eventually(lambda: sessions.ended == ["a"])

    asyncio.run(scenario())

    assert not mark.exists()


#: Every field of a job's hash that RQ looks at, as its source says.
_READ = re.compile(r"obj(?:\.get\(|\[)'(\w+)'|'(\w+)' in obj")
FIELDS = sorted({one or other for one, other in _READ.findall(inspect.getsource(Job.restore))})


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_of_a_job_is_unpickled(mark: Path, field: str) -> None:
    evil = pickle.dumps(Evil(mark))

    for value in (evil, zlib.compress(evil), b64encode(evil)):
        # As RQ makes one where nobody names a serializer.
        job = SessionJob("a-0", FakeRedis())
        with suppress(Exception):
            job.restore({b"data": b"[]", field.encode(): value})
        for name, _ in inspect.getmembers(Job, lambda member: isinstance(member, property)):
            with suppress(Exception):
                getattr(job, name)

    assert not mark.exists()


def test_the_fields_are_those_that_are_known() -> None:
    assert {"data", "meta", "result", "exc_info", "success_callback_name", "webhooks", "dependency_ids"} <= {*FIELDS}
    assert len(FIELDS) > 30


@pytest.mark.parametrize("field", HOSTILE)
def test_a_job_of_a_dead_worker_is_cleaned_up_and_runs_nothing(redis_url: str, mark: Path, field: str) -> None:
    async def scenario() -> None:
        with Redis.from_url(redis_url) as client:
            registry = left_by_a_dead_worker(client, "dead")
            client.hset("rq:job:dead", mapping=HOSTILE[field](mark))

            async with working(redis_url, Sessions()):
                await eventually(lambda: not client.zcard(registry.key))

    asyncio.run(scenario())

    assert not mark.exists()


def test_a_job_that_is_stopped_calls_nothing(redis_url: str, mark: Path) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        with Redis.from_url(redis_url) as client:
            bell.ring("a", 0)
            client.hset("rq:job:a-0", "stopped_callback_name", CALLBACK)
            async with working(redis_url, sessions) as worker:
                await sessions.until(lambda: sessions.running == ["a"])
                channel = worker._registries.pubsub_channel_name
                await eventually(lambda: dict(client.pubsub_numsub(channel))[channel.encode()])
                bell.stop(worker.name, "a", 0)
                await sessions.until(lambda: sessions.cancelled == ["a"])

    asyncio.run(scenario())

    assert not mark.exists()


def test_what_is_written_is_json(redis_url: str) -> None:
    TurnQueue(redis_url).ring("a", 0)

    with Redis.from_url(redis_url) as client:
        stored = client.hgetall("rq:job:a-0")

    name, _, arguments, named = json.loads(zlib.decompress(stored[b"data"]))
    assert (name, arguments, named) == (f"{run_session.__module__}.{run_session.__name__}", ["a"], {})
    assert b"meta" not in stored


@pytest.mark.parametrize("job_id", ["a-0", "0190-a-b-12"])
def test_an_id_says_for_whom_a_job_rings(job_id: str) -> None:
    session_id, attempt = rings_for(job_id) or ("", -1)

    assert f"{session_id}-{attempt}" == job_id


@pytest.mark.parametrize("job_id", ["a", "-1", "a-", "a-x", "a-٣", "a--"])
def test_another_id_rings_for_nobody(job_id: str) -> None:
    assert rings_for(job_id) is None


def test_a_webhook_is_not_posted_to() -> None:
    fields = {"data": b"[]", "webhooks": json.dumps([{"url": "http://127.0.0.1:1/x", "statuses": ["failed"]}]).encode()}

    restored = SessionJob("a-0", Redis(port=1))
    restored.restore({name.encode(): value for name, value in fields.items()})

    assert restored.webhooks == []


@pytest.mark.parametrize("redis_url", ["redis"], indirect=True)
def test_jobs_that_are_gone_or_can_not_be_read_hold_up_no_session(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        with Redis.from_url(redis_url) as client, client.pipeline(transaction=False) as pipeline:
            for n in range(150):
                pipeline.rpush("rq:queue:sessions", f"unreadable-{n}x", f"no-hash-{n}x")
                pipeline.hset(f"rq:job:unreadable-{n}x", mapping={"data": "x", "created_at": "never"})
                pipeline.set(f"rq:job:no-hash-{n}x", "text")
            pipeline.rpush("rq:queue:sessions", *(f"gone-{n}" for n in range(1_000)))
            pipeline.execute()
            bell.ring("a", 0)
            async with working(redis_url, sessions):
                async with asyncio.timeout(15):
                    await sessions.until(lambda: sessions.running == ["a"])
                sessions.let_go("a")
                await eventually(lambda: sessions.ended == ["a"])

    asyncio.run(scenario())
