from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from redis import Redis
from rq import Queue, Worker
from rq.command import send_shutdown_command, send_stop_job_command
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Callback, Job, JobStatus
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend

from app.broker.queue import QUEUE_NAME, TurnQueue
from tests.servers import RedisServer, free_port
from worker.rq import SessionWorker
from worker.rq.taker import Taker

#: Far beyond what anything here takes, also on a machine that is busy with other things.
LIMIT_S = 60


class Sessions:
    """Stands for what runs sessions: each waits until it is let go, and everything is recorded."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.drains: list[float] = []
        self.failures: dict[str, Exception] = {}
        self.stubborn = False
        self._gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._changed = asyncio.Condition()

    async def run(self, session_id: str) -> None:
        await self._note(self.running.append, session_id)
        try:
            await self._gates[session_id].wait()
            if session_id in self.failures:
                raise self.failures[session_id]
            self.ended.append(session_id)
        except asyncio.CancelledError:
            self.cancelled.append(session_id)
            raise
        finally:
            self.running.remove(session_id)
            await self._note(lambda _: None, session_id)

    async def drain(self, grace_s: float) -> None:
        self.drains.append(grace_s)
        await self._note(lambda _: None, "")
        if self.stubborn:
            await asyncio.Event().wait()
        if not grace_s:
            self.let_go(*self.running)
        await self.until(lambda: not self.running)

    async def _note(self, change: Callable[[str], None], session_id: str) -> None:
        async with self._changed:
            change(session_id)
            self._changed.notify_all()

    async def until(self, condition: Callable[[], object]) -> None:
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: bool(condition())), LIMIT_S)

    def let_go(self, *session_ids: str) -> None:
        for session_id in session_ids:
            self._gates[session_id].set()


async def eventually(condition: Callable[[], object]) -> None:
    """For what the worker's threads write to Redis."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "not within the limit"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def working(
    url: str, sessions: Sessions, *, concurrency: int = 50, heartbeat_s: int | None = None
) -> AsyncIterator[SessionWorker]:
    worker = SessionWorker(url, sessions.run, sessions.drain, concurrency=concurrency, stop_grace_s=0.01)
    worker._registries.job_monitoring_interval = heartbeat_s or worker._registries.job_monitoring_interval
    serving = asyncio.create_task(worker.serve())
    try:
        yield worker
    finally:
        if not worker._taker.stopped:
            sessions.let_go(*sessions.running)
            worker.request_stop()
        await asyncio.wait_for(serving, LIMIT_S)


def status(url: str, job: str) -> JobStatus | None:
    with Redis.from_url(url) as client:
        try:
            return Job.fetch(job, connection=client).get_status(refresh=False)
        except NoSuchJobError:
            return None


def why_failed(job: Job) -> str:
    result = job.latest_result()
    return (result and result.exc_string) or ""


def started(url: str) -> set[str]:
    with Redis.from_url(url) as client:
        return set(StartedJobRegistry(QUEUE_NAME, connection=client).get_job_ids(cleanup=False))


def left_by_a_dead_worker(
    client: Redis, job_id: str, *, ago_s: float = 10, on_failure: Callback | None = None
) -> StartedJobRegistry:
    """A job that a worker began and never ended; its time ran out *ago_s* seconds ago. Returns where it is listed."""
    queue = Queue(QUEUE_NAME, connection=client)
    job = queue.enqueue("os.getpid", job_id=job_id, on_failure=on_failure, failure_ttl=60)
    queue.remove(job)
    with client.pipeline() as pipeline:
        execution = Execution.create(job, ttl=60, pipeline=pipeline)
        pipeline.execute()
    registry = StartedJobRegistry(QUEUE_NAME, connection=client)
    client.zadd(registry.key, {execution.composite_key: time.time() - ago_s})
    return registry


def test_three_hundred_sessions_run_at_once_in_one_process(redis_url: str) -> None:
    names = [f"session{number}" for number in range(300)]

    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        for name in names:
            bell.ring(name, 0)
        async with working(redis_url, sessions, concurrency=300):
            await sessions.until(lambda: len(sessions.running) == 300)
            sessions.let_go(*names)
            await sessions.until(lambda: len(sessions.ended) == 300)
        assert sorted(sessions.ended) == sorted(names)

    asyncio.run(scenario())

    with Redis.from_url(redis_url) as client:
        assert client.keys("rq:job:*") == client.keys("rq:execution*") == client.keys("rq:wip:*") == []
        assert client.lrange("rq:queue:sessions:intermediate", 0, -1) == []


def test_nothing_is_taken_while_the_worker_is_full(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        async with working(redis_url, sessions, concurrency=2):
            for name in "abc":
                bell.ring(name, 0)
            await sessions.until(lambda: len(sessions.running) == 2)
            await eventually(lambda: len(started(redis_url)) == 2)
            assert bell.waiting() == {"c-0"}

            sessions.let_go("a")

            await sessions.until(lambda: "c" in sessions.running)

    asyncio.run(scenario())


def test_rq_sees_each_job_started_and_then_gone(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        with Redis.from_url(redis_url) as client:
            async with working(redis_url, sessions) as worker:
                bell.ring("a", 0)
                bell.ring("b", 1)
                await eventually(lambda: started(redis_url) == {"a-0", "b-1"})
                await eventually(lambda: status(redis_url, "b-1") is JobStatus.STARTED)
                assert status(redis_url, "a-0") is JobStatus.STARTED
                assert Job.fetch("a-0", connection=client).worker_name == worker.name
                assert len(Job.fetch("a-0", connection=client).get_executions()) == 1
                [seen] = Worker.all(connection=client)
                assert (seen.name, seen.get_state(), seen.pid) == (worker.name, "busy", os.getpid())
                assert seen.get_current_job_id() in {"a-0", "b-1"}

                sessions.let_go("b")
                await eventually(lambda: status(redis_url, "b-1") is None)
                assert started(redis_url) == {"a-0"}
                assert seen.get_current_job_id() == "a-0"

                sessions.let_go("a")
                await eventually(lambda: status(redis_url, "a-0") is None)
                seen.refresh()
                assert (seen.get_state(), seen.get_current_job_id(), seen.successful_job_count) == ("idle", None, 2)
            assert Worker.all(connection=client) == []

    asyncio.run(scenario())


def test_the_stop_command_ends_one_job_only(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        with Redis.from_url(redis_url) as client:
            async with working(redis_url, sessions) as worker:
                for name in "abc":
                    bell.ring(name, 0)
                await eventually(lambda: len(started(redis_url)) == 3)
                await eventually(lambda: Job.fetch("b-0", connection=client).worker_name)

                send_stop_job_command(client, "b-0")
                await sessions.until(lambda: sessions.cancelled == ["b"])
                bell.stop(worker.name, "c", 0)
                await sessions.until(lambda: sessions.cancelled == ["b", "c"])

                await eventually(lambda: started(redis_url) == {"a-0"})
                await eventually(lambda: [status(redis_url, each) for each in ("b-0", "c-0")] == [None, None])
                # What somebody stopped has not failed.
                assert FailedJobRegistry(QUEUE_NAME, connection=client).get_job_ids() == []
                assert sessions.running == ["a"]

    asyncio.run(scenario())


def test_commands_that_make_no_sense_are_ignored(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        with Redis.from_url(redis_url) as client:
            async with working(redis_url, sessions) as worker:
                channel = worker._registries.pubsub_channel_name
                await eventually(lambda: dict(client.pubsub_numsub(channel))[channel.encode()] == 1)
                for payload in (
                    b"\xff",
                    b"{}",
                    b"[]",
                    json.dumps({"command": "stop-job"}),
                    '{"command": "kill-horse"}',
                ):
                    client.publish(channel, payload)
                bell.stop(worker.name, "nobody", 0)

                bell.ring("a", 0)
                await eventually(lambda: started(redis_url) == {"a-0"})
                bell.stop(worker.name, "a", 0)
                await sessions.until(lambda: sessions.cancelled == ["a"])

    asyncio.run(scenario())


def test_a_session_that_raises_is_a_failed_job_with_its_traceback(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        sessions.failures["a"] = ValueError("broken in here")
        sessions.let_go("a")
        async with working(redis_url, sessions):
            bell.ring("a", 0)
            await eventually(lambda: status(redis_url, "a-0") is JobStatus.FAILED)

    asyncio.run(scenario())

    with Redis.from_url(redis_url) as client:
        job = Job.fetch("a-0", connection=client)
        assert "ValueError: broken in here" in why_failed(job)
        assert "a-0" in FailedJobRegistry(QUEUE_NAME, connection=client)
        assert 0 < client.ttl(job.key) <= 3600
        assert started(redis_url) == set()


def test_a_job_that_is_no_session_is_refused(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        async with working(redis_url, sessions):
            with Redis.from_url(redis_url) as client:
                queue = Queue(QUEUE_NAME, connection=client, serializer=JSONSerializer)
                foreign = queue.enqueue("os.getpid", job_id="foreign")
                client.hset("rq:job:torn", "last_heartbeat", "never")
                client.rpush("rq:queue:sessions", "torn", "unknown")
                bell.ring("a", 0)
                await sessions.until(lambda: sessions.running == ["a"])
                await eventually(lambda: status(redis_url, "foreign") is JobStatus.FAILED)
                assert "not os.getpid" in why_failed(foreign)

    asyncio.run(scenario())


def test_a_worker_whose_redis_comes_back_empty_goes_on(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis()

    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(server.url)
        with Redis.from_url(server.url) as client:
            async with working(server.url, sessions) as worker:
                bell.ring("a", 0)
                bell.ring("b", 0)
                await eventually(lambda: started(server.url) == {"a-0", "b-0"})

                server.kill9()
                sessions.let_go("b")
                await sessions.until(lambda: sessions.ended == ["b"])
                await asyncio.to_thread(server.start)

                bell.ring("c", 0)
                await sessions.until(lambda: sessions.running == ["a", "c"])
                await eventually(lambda: started(server.url) == {"a-0", "c-0"})
                await eventually(lambda: status(server.url, "a-0") is JobStatus.STARTED)
                assert [seen.name for seen in Worker.all(connection=client)] == [worker.name]
                bell.stop(worker.name, "c", 0)
                await sessions.until(lambda: sessions.cancelled == ["c"])
                sessions.let_go("a")
                await eventually(lambda: status(server.url, "a-0") is None)
            assert started(server.url) == set()

    asyncio.run(scenario())


def test_a_worker_survives_flushall_and_registers_again(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        with Redis.from_url(redis_url) as client:
            async with working(redis_url, sessions, heartbeat_s=1) as worker:
                bell.ring("a", 0)
                await eventually(lambda: started(redis_url) == {"a-0"})

                client.flushall()

                bell.ring("b", 0)
                await eventually(lambda: started(redis_url) == {"a-0", "b-0"})
                await eventually(lambda: status(redis_url, "a-0") is JobStatus.STARTED)
                [seen] = Worker.all(connection=client)
                assert (seen.name, seen.get_state()) == (worker.name, "busy")

                # Now they end before anybody has noticed.
                client.flushall()
                sessions.let_go("a", "b")
            assert client.keys("rq:execution*") == client.keys("rq:job:*") == client.keys("rq:wip:*") == []

    asyncio.run(scenario())


def test_a_silent_redis_holds_up_no_session_and_is_used_again_when_it_answers(
    make_redis: Callable[..., RedisServer],
) -> None:
    server = make_redis()

    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(server.url)
        async with working(server.url, sessions):
            bell.ring("a", 0)
            await eventually(lambda: started(server.url) == {"a-0"})

            server.pause()
            sessions.let_go("a")
            await sessions.until(lambda: sessions.ended == ["a"])
            server.resume()

            bell.ring("b", 0)
            await sessions.until(lambda: sessions.running == ["b"])
            await eventually(lambda: started(server.url) == {"b-0"})

    asyncio.run(scenario())


def test_a_worker_that_starts_before_redis_works_once_it_is_there(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis()
    server.kill9()

    async def scenario() -> None:
        sessions = Sessions()
        async with working(server.url, sessions):
            await asyncio.sleep(0.2)
            await asyncio.to_thread(server.start)
            TurnQueue(server.url).ring("a", 0)
            await sessions.until(lambda: sessions.running == ["a"])

    asyncio.run(scenario())


def test_a_worker_stops_without_redis() -> None:
    async def scenario() -> float:
        sessions = Sessions()
        async with working(f"redis://127.0.0.1:{free_port()}", sessions):
            await asyncio.sleep(0.2)
            begun = time.monotonic()
        assert sessions.drains == [0.01]
        return time.monotonic() - begun

    assert asyncio.run(scenario()) < 5


def test_sigterm_takes_nothing_more_and_lets_sessions_finish(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        async with working(redis_url, sessions) as worker:
            worker._stop_grace_s = 15.0
            bell.ring("a", 0)
            await eventually(lambda: started(redis_url) == {"a-0"})

            os.kill(os.getpid(), signal.SIGTERM)
            await sessions.until(lambda: sessions.drains == [15.0])
            await eventually(lambda: "take_jobs" not in {thread.name for thread in threading.enumerate()})
            bell.ring("b", 0)
            sessions.let_go("a")
            await sessions.until(lambda: sessions.ended == ["a"])
        assert bell.waiting() == {"b-0"}
        assert sessions.drains == [15.0]
        assert started(redis_url) == set()
        with Redis.from_url(redis_url) as client:
            assert Worker.all(connection=client) == []
            assert client.lrange("rq:queue:sessions:intermediate", 0, -1) == []

    asyncio.run(scenario())


def test_a_job_that_arrives_while_the_worker_stops_goes_to_the_next_one(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        async with working(redis_url, sessions) as worker:
            worker._stop_grace_s = 15.0
            bell.ring("a", 0)
            await sessions.until(lambda: sessions.running == ["a"])
            worker.request_stop()
            await sessions.until(lambda: sessions.drains)
            await eventually(lambda: "take_jobs" not in {thread.name for thread in threading.enumerate()})

            bell.ring("late", 0)
            with Redis.from_url(redis_url) as client:
                queue = Queue(QUEUE_NAME, connection=client, serializer=JSONSerializer)
                taken = Queue.dequeue_any([queue], None, connection=client, serializer=JSONSerializer)
                assert taken is not None
                worker._begin(taken[0])
            sessions.let_go("a")
        assert bell.waiting() == {"late-0"}
        assert sessions.ended == ["a"]

    asyncio.run(scenario())


def test_a_second_sigterm_hands_back_at_once(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        async with working(redis_url, sessions) as worker:
            worker._stop_grace_s = 3600.0
            bell.ring("a", 0)
            await sessions.until(lambda: sessions.running == ["a"])

            os.kill(os.getpid(), signal.SIGTERM)
            await sessions.until(lambda: sessions.drains == [3600.0])
            os.kill(os.getpid(), signal.SIGTERM)
            await sessions.until(lambda: sessions.drains == [3600.0, 0.0])
            await sessions.until(lambda: sessions.ended == ["a"])
        assert started(redis_url) == set()

    asyncio.run(scenario())


def test_the_pair_of_signals_of_one_ctrl_c_counts_once(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        async with working(redis_url, sessions) as worker:
            worker._stop_grace_s = 15.0
            bell.ring("a", 0)
            await sessions.until(lambda: sessions.running == ["a"])

            worker.request_stop(signal.SIGINT)
            worker.request_stop(signal.SIGTERM)
            sessions.let_go("a")
        assert sessions.drains == [15.0]

    asyncio.run(scenario())


def test_sessions_that_outlive_every_grace_are_cancelled(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.rq.worker.CANCEL_GRACE_S", 0.2)

    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        sessions.stubborn = True
        async with working(redis_url, sessions) as worker:
            bell.ring("a", 0)
            await eventually(lambda: started(redis_url) == {"a-0"})

            worker.request_stop()
            worker.request_stop()
            await sessions.until(lambda: sessions.cancelled == ["a"])
        assert started(redis_url) == set()

    asyncio.run(scenario())


def test_the_shutdown_command_of_rq_stops_the_worker(redis_url: str) -> None:
    async def scenario() -> None:
        sessions = Sessions()
        with Redis.from_url(redis_url) as client:
            async with working(redis_url, sessions) as worker:
                channel = worker._registries.pubsub_channel_name
                await eventually(lambda: dict(client.pubsub_numsub(channel))[channel.encode()] == 1)
                send_shutdown_command(client, worker.name)
                await sessions.until(lambda: sessions.drains)

    asyncio.run(scenario())


def test_a_suspended_worker_takes_nothing_until_it_is_resumed(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        with Redis.from_url(redis_url) as client:
            suspend(client)
            async with working(redis_url, sessions):
                bell.ring("a", 0)
                await asyncio.sleep(0.3)
                assert bell.waiting() == {"a-0"}
                resume(client)
                await sessions.until(lambda: sessions.running == ["a"])

    asyncio.run(scenario())


def raise_in_callback(*_: object) -> None:
    raise RuntimeError("callback")


def test_what_dead_workers_left_is_cleaned_up_although_a_callback_raises(redis_url: str) -> None:
    async def scenario() -> None:
        sessions, bell = Sessions(), TurnQueue(redis_url)
        with Redis.from_url(redis_url) as client:
            queue = Queue(QUEUE_NAME, connection=client)
            left_by_a_dead_worker(client, "dead")
            left_by_a_dead_worker(client, "raises", ago_s=5, on_failure=Callback(raise_in_callback))

            async with working(redis_url, sessions):
                await eventually(lambda: not client.exists(queue.registry_cleaning_key) and client.exists("rq:workers"))
                bell.ring("a", 0)
                await sessions.until(lambda: sessions.running == ["a"])

    asyncio.run(scenario())


def test_of_what_a_dead_worker_left_only_jobs_that_are_no_sessions_have_failed(redis_url: str) -> None:
    async def scenario() -> None:
        sessions = Sessions()
        with Redis.from_url(redis_url) as client:
            left_by_a_dead_worker(client, "dead")
            left_by_a_dead_worker(client, "session-0")

            async with working(redis_url, sessions):
                await eventually(lambda: status(redis_url, "dead") is JobStatus.FAILED)
            assert started(redis_url) == set()
            # Another attempt goes on with the session.
            assert status(redis_url, "session-0") is None
            assert FailedJobRegistry(QUEUE_NAME, connection=client).get_job_ids() == ["dead"]

    asyncio.run(scenario())


def test_a_thread_that_breaks_ends_the_worker_with_its_error(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(self: Taker) -> None:
        raise LookupError("bug")

    async def scenario() -> None:
        sessions = Sessions()
        await SessionWorker(redis_url, sessions.run, sessions.drain).serve()

    monkeypatch.setattr(Taker, "_wait_for_job", break_down)

    with pytest.raises(LookupError, match="bug"):
        asyncio.run(scenario())
