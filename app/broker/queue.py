"""The queue that wakes workers. It is a doorbell: the sessions themselves are in the database."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.command import send_command
from rq.utils import now

from app.errors import QueueUnavailable
from app.observability import metrics

from .client import open_redis
from .heads import key as head_key
from .jobs import JOB_FUNCTION, SERIALIZER, SessionJob, job_id, rings_for

QUEUE_NAME = "sessions"
#: How long a failed job stays visible to `rq info`. RQ's default is a year.
FAILURE_TTL_S = 3600


class TurnQueue:
    """Rings for sessions and stops them.

    Every method takes at most two seconds, and raises:
        QueueUnavailable: Redis can't be reached or does not answer.
    """

    def __init__(self, redis: Redis | str) -> None:
        self.redis = open_redis(redis) if isinstance(redis, str) else redis
        self._queue = Queue(QUEUE_NAME, connection=self.redis, job_class=SessionJob, serializer=SERIALIZER)

    def ring(self, session_id: str, attempt: int, *, first: bool = False) -> None:
        """Have some worker look at a session; ringing twice leaves one job, in its first place.

        What has been worked on goes to the front: behind a long queue it would not be resumed in time.

        Args:
            session_id: A committed session: the worker may read it before this returns.
            attempt: Its attempts so far, so that the next one's job never shares an id with one that is ending.
            first: To the front, also if it is in the queue already.
        """
        with _redis_trouble():
            if not first and self.redis.lpos(self._queue.key, job_id(session_id, attempt)) is not None:
                return
            job = self._queue.create_job(
                JOB_FUNCTION,
                args=(session_id,),
                job_id=job_id(session_id, attempt),
                description=f"session {session_id}",
                # The run itself ends in time; RQ's alarm would cut its last commit.
                timeout=-1,
                result_ttl=0,
                failure_ttl=FAILURE_TTL_S,
            )
            with self.redis.pipeline() as pipeline:
                self._queue.enqueue_job(job, pipeline=pipeline)
                # RQ's own check for duplicates looks for the job's hash, which outlives a killed worker.
                pipeline.lrem(self._queue.intermediate_queue_key, 0, job.id)
                pipeline.lrem(self._queue.key, 0, job.id)
                self._queue.push_job_id(job.id, pipeline=pipeline, at_front=first or attempt > 0)
                pipeline.execute()

    def waiting(self) -> set[str]:
        """The jobs that no worker has taken yet, by their ids (see `job_id`)."""
        with _redis_trouble():
            return set(self._queue.get_job_ids())

    def stop(self, worker_name: str, session_id: str, attempt: int) -> None:
        """Ask a worker to stop a session's job at once; nothing happens when it does not run it.

        Args:
            worker_name: Name of the RQ worker.
            session_id: The session.
            attempt: As it was given to `ring`.
        """
        with _redis_trouble():
            send_command(self.redis, worker_name, "stop-job", job_id=job_id(session_id, attempt))

    def forget(self, session_ids: Collection[str]) -> None:
        """Remove whatever Redis holds of these sessions: jobs, their results, what lists them, heads."""
        with _redis_trouble():
            for key in self.redis.scan_iter(match="rq:*", count=500):
                self._forget_in(key, session_ids)
            for session_id in session_ids:
                self.redis.delete(head_key(session_id))

    def _forget_in(self, key: bytes, session_ids: Collection[str]) -> None:
        client: Any = self.redis
        # Such as `rq:job:ID`, `rq:results:ID`, `rq:execution:ID:…`.
        if _is_of(b":".join(key.split(b":")[2:]), session_ids):
            client.delete(key)
            return
        kind = client.type(key)
        if kind == b"list":
            for member in client.lrange(key, 0, -1):
                if _is_of(member, session_ids):
                    client.lrem(key, 0, member)
        elif kind == b"zset":
            for member in client.zrange(key, 0, -1):
                if _is_of(member, session_ids):
                    client.zrem(key, member)

    def workers(self) -> int:
        """How many workers have registered for the queue."""
        with _redis_trouble():
            return Worker.count(queue=self._queue)

    def heard_from(self, host: str, within_s: float) -> bool:
        """Whether a worker on the machine of this name has given a sign of life in the last *within_s* seconds."""
        since = now() - timedelta(seconds=within_s)
        with _redis_trouble():
            workers = Worker.all(queue=self._queue)
        return any(w.hostname == host and w.last_heartbeat is not None and w.last_heartbeat > since for w in workers)

    def ping(self) -> None:
        """Return when Redis answers and takes writes: a replica, or one whose disk or memory is full, does not."""
        with _redis_trouble():
            self.redis.set("backchat:ping", 1, px=1000)


def _is_of(name: bytes, session_ids: Collection[str]) -> bool:
    """*name* is that of a job of these sessions, or of one of its executions."""
    rung = rings_for(name.split(b":")[0].decode(errors="replace"))
    return rung is not None and rung[0] in session_ids


@contextmanager
def _redis_trouble() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        metrics.REDIS_ERRORS.labels("queue").inc()
        raise QueueUnavailable("the queue can't be reached") from error
