"""Takes jobs from the queue, on a thread of its own, while there is a free place for their sessions."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from redis.exceptions import RedisError, ResponseError
from rq import Queue
from rq.exceptions import DequeueTimeout
from rq.job import Job
from rq.suspension import is_suspended

from app.broker.client import open_redis
from app.broker.jobs import SERIALIZER, SessionJob, rings_for
from app.broker.queue import TurnQueue
from app.errors import QueueUnavailable

from .outage import Outage
from .registries import Registries

logger = logging.getLogger(__name__)

#: Longest wait for a job within one command.
DEQUEUE_S = 10


class Taker:
    """Takes a job for each free place.

    Args:
        redis_url: The broker; it may be away, also at the start.
        places: Jobs at once; at that number nothing more is taken from the queue.
    """

    def __init__(self, redis_url: str, registries: Registries, places: int) -> None:
        self._registries = registries
        # Waiting for a job takes longer than any other answer may.
        self._client_name = f"{registries.name}-waits"
        self._client = open_redis(redis_url, timeout_s=DEQUEUE_S + 5.0, client_name=self._client_name)
        self._free = threading.Semaphore(places)
        self._stop = threading.Event()

    @property
    def stopped(self) -> bool:
        """Nothing more is taken."""
        return self._stop.is_set()

    def free(self) -> None:
        """A job has ended: its place is free."""
        self._free.release()

    def stop(self) -> None:
        """Take nothing more; a wait inside Redis goes on until `wake`."""
        self._stop.set()
        self._free.release()

    def take(self, deliver: Callable[[Job], None]) -> None:
        """Give each job to *deliver*, until `stop`."""
        while True:
            self._free.acquire()
            job = self._wait_for_job()
            if job is None:
                return
            deliver(job)

    def wake(self, thread: threading.Thread) -> None:
        """Return once *thread*, which takes, has ended; its wait inside Redis is cut short."""
        while thread.is_alive() and not self._registries.closing.is_set():
            # Closing its connection instead could lose a job that is just on its way.
            with contextlib.suppress(RedisError):
                for client in self._registries.connection.client_list():
                    if client.get("name") == self._client_name:
                        self._registries.connection.client_unblock(int(client["id"]))
            thread.join(0.05)

    def close(self) -> None:
        self._client.close()

    def _wait_for_job(self) -> Job | None:
        """The next job; None once the worker stops."""
        outage = Outage("jobs", "no jobs are taken", self._stop)
        while not self._stop.is_set():
            try:
                if is_suspended(self._registries.connection):
                    self._stop.wait(1.0)
                    continue
                taken = Queue.dequeue_any(
                    [self._registries.queue],
                    DEQUEUE_S,
                    connection=self._client,
                    job_class=SessionJob,
                    serializer=SERIALIZER,
                )
            except DequeueTimeout:
                self._after(outage)
                continue
            except RedisError as error:
                if isinstance(error, ResponseError) and hasattr(error, "job_id"):
                    # What stands at the name of this job is no hash.
                    self._discard(error)
                else:
                    outage.wait(error)
                continue
            except Exception as error:  # noqa: BLE001 - whatever a foreign job holds, sessions go on
                self._discard(error)
                continue
            self._after(outage)
            assert taken is not None
            job = taken[0]
            assert isinstance(job, SessionJob)
            job.connection = self._registries.connection
            if not job.is_readable and rings_for(job.id) is not None:
                logger.warning("job of an older process", extra={"job": job.id})
                self._ring_again(job.id)
                continue
            if self._stop.is_set():
                self._registries.put_back_now(job)
                return None
            return job
        return None

    def _after(self, outage: Outage) -> None:
        if outage.over():
            self._registries.register_again()

    def _ring_again(self, job_id: str) -> None:
        """A job that is not readable, as an older process's is not: its id says for whom it rings."""
        with contextlib.suppress(RedisError, QueueUnavailable):
            # The sweeper does it where this can't.
            self._registries.connection.lrem(self._registries.queue.intermediate_queue_key, 1, job_id)
            named = rings_for(job_id)
            if named is not None:
                self._registries.connection.delete(SessionJob.key_for(job_id))
                TurnQueue(self._registries.connection).ring(*named)

    def _discard(self, error: Exception) -> None:
        """A job whose hash can't be read goes no further; one of a session is rung again."""
        job_id = getattr(error, "job_id", None)
        logger.error("unreadable job dropped", exc_info=error, extra={"job": job_id})
        if job_id is None:
            # Nothing has left the queue: this must not become a busy loop.
            self._stop.wait(0.1)
        else:
            self._ring_again(job_id)
