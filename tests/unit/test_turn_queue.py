from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from uuid import uuid4

import pytest
import redis
from fakeredis import FakeRedis, FakeServer
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from app.broker.queue import FAILURE_TTL_S, JOB_FUNCTION, QUEUE_NAME, TurnQueue, job_id
from app.errors import QueueUnavailable
from tests.factories import at_once, failures
from tests.servers import RedisServer, free_port


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with FakeRedis(server=FakeServer()) as fake:
        # RQ asks for the server's version, which fakeredis does not tell.
        setattr(fake, "__rq_redis_server_version", (7, 4, 0))
        yield fake


def test_a_ring_queues_the_job_by_name_and_lets_go_of_its_result(client: redis.Redis) -> None:
    session_id = str(uuid4())

    TurnQueue(client).ring(session_id, 0)

    job = Job.fetch(job_id(session_id, 0), connection=client, serializer=JSONSerializer)
    assert (job.func_name, job.args, job.origin) == (JOB_FUNCTION, [session_id], QUEUE_NAME)
    assert (job.result_ttl, job.failure_ttl, job.timeout) == (0, FAILURE_TTL_S, -1)
    assert job.get_status() is JobStatus.QUEUED
    assert client.smembers("rq:queues") == {b"rq:queue:sessions"}


def test_ringing_twice_leaves_one_job_in_its_place(client: redis.Redis) -> None:
    queue = TurnQueue(client)

    queue.ring("a", 0)
    queue.ring("b", 0)
    queue.ring("a", 0)

    assert client.lrange("rq:queue:sessions", 0, -1) == [b"a-0", b"b-0"]


def test_what_is_resumed_goes_before_what_has_not_begun(client: redis.Redis) -> None:
    queue = TurnQueue(client)
    queue.ring("first", 0)
    queue.ring("second", 0)

    queue.ring("resumed", 1)

    assert client.lrange("rq:queue:sessions", 0, -1) == [b"resumed-1", b"first-0", b"second-0"]


def test_a_ring_is_heard_although_a_killed_worker_left_its_job_behind(client: redis.Redis) -> None:
    queue = TurnQueue(client)
    queue.ring("a", 0)
    client.lmove("rq:queue:sessions", "rq:queue:sessions:intermediate")
    assert queue.waiting() == set()

    queue.ring("a", 0)

    assert queue.waiting() == {"a-0"}
    assert client.llen("rq:queue:sessions:intermediate") == 0


def test_waiting_names_the_jobs_that_nobody_took(client: redis.Redis) -> None:
    queue = TurnQueue(client)
    session_id = str(uuid4())
    queue.ring(session_id, 0)
    queue.ring("taken", 2)
    queue.ring("other", 1)
    client.lrem("rq:queue:sessions", 0, "taken-2")

    assert queue.waiting() == {job_id(session_id, 0), job_id("other", 1)}


def test_a_stop_reaches_the_channel_of_the_named_worker(client: redis.Redis) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe("rq:pubsub:worker-1")
        channel.get_message(timeout=1)

        TurnQueue(client).stop("worker-1", "a", 3)

        message = channel.get_message(timeout=1)
    assert message is not None
    assert json.loads(message["data"]) == {"command": "stop-job", "job_id": "a-3"}


def test_stopping_what_nobody_runs_is_no_error(client: redis.Redis) -> None:
    TurnQueue(client).stop("nobody", "a", 0)


CALLS: dict[str, Callable[[TurnQueue], object]] = {
    "ring": lambda queue: queue.ring("a", 0),
    "waiting": lambda queue: queue.waiting(),
    "stop": lambda queue: queue.stop("worker-1", "a", 0),
    "ping": lambda queue: queue.ping(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_redis_that_is_gone_is_told_at_once(call: Callable[[TurnQueue], object]) -> None:
    queue = TurnQueue(f"redis://127.0.0.1:{free_port()}")
    started = time.monotonic()

    with pytest.raises(QueueUnavailable):
        call(queue)

    assert time.monotonic() - started < 2


@pytest.mark.parametrize("used_before", [False, True])
def test_a_redis_that_does_not_answer_is_told_within_two_seconds(
    used_before: bool, make_redis: Callable[..., RedisServer]
) -> None:
    server = make_redis()
    queues = {name: TurnQueue(server.url) for name in CALLS}
    for queue in queues.values() if used_before else ():
        queue.ring("b", 0)
    server.pause()

    def waited_s(name: str) -> float:
        started = time.monotonic()
        with pytest.raises(QueueUnavailable):
            CALLS[name](queues[name])
        return time.monotonic() - started

    outcomes = at_once([partial(waited_s, name) for name in CALLS])

    assert failures(outcomes) == []
    assert all(float(each) < 2 for each in outcomes)  # type: ignore[arg-type]


def test_a_ring_after_a_restart_of_redis_is_heard(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis()
    queue = TurnQueue(server.url)
    queue.ring("a", 0)
    server.kill9()
    server.start()

    queue.ring("b", 0)

    assert queue.waiting() == {"b-0"}
