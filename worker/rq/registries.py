"""RQ's registries for many jobs at once: what started, lives and ended, written by one thread.

No session waits for them. While Redis is away they keep what they have to write; a Redis that comes back empty
gets everything anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
import queue
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import worker_registration
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.timeouts import TimerDeathPenalty
from rq.utils import now
from rq.worker import BaseWorker
from rq.worker.base import WorkerStatus

from app.broker.client import open_redis
from app.broker.jobs import SERIALIZER, SessionJob, rings_for
from app.broker.queue import QUEUE_NAME

from .outage import Outage

logger = logging.getLogger(__name__)

#: Pause between two heartbeats; what is silent for 75 s counts as dead.
HEARTBEAT_S = 15
#: Pause between two clean-ups of what dead workers left in the registries.
MAINTENANCE_S = 60


@dataclass(eq=False)
class Slot:
    """One job that runs here."""

    job: Job
    task: asyncio.Task[None] | None = None
    #: What RQ knows of this run; None until it is recorded.
    execution: Execution | None = None
    ended_at: datetime | None = None
    #: RQ's stop command named this job.
    stopped: bool = False


class Registries(BaseWorker):
    """The half of a worker that RQ sees: `rq info`, `Job.get_status()` and the clean-up of other workers.

    Args:
        redis_url: The broker; it may be away, also at the start.
        name: Unique among all workers.
    """

    # RQ's own uses SIGALRM, which threads can't.
    death_penalty_class = TimerDeathPenalty

    def __init__(self, redis_url: str, name: str) -> None:
        super().__init__(
            [QUEUE_NAME],
            name=name,
            connection=open_redis(redis_url, timeout_s=5.0),
            worker_ttl=HEARTBEAT_S * 2,
            job_monitoring_interval=HEARTBEAT_S,
            maintenance_interval=MAINTENANCE_S,
            log_job_description=False,
            job_class=SessionJob,
            serializer=SERIALIZER,
            # It would ask Redis who we are, which may be away.
            prepare_for_work=False,
        )
        self.hostname, self.pid = socket.gethostname(), os.getpid()
        self.birth_date = self.last_heartbeat = now()
        self.queue = self.queues[0]
        #: The jobs that run here; the event loop's.
        self.slots: dict[str, Slot] = {}
        #: Set: whoever waits for Redis gives up.
        self.closing = threading.Event()
        # What has to be written, in order; None ends it.
        self._entries: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Set: every session has ended, only the registries are still written.
        self._ending = threading.Event()

    def _set_connection(self, connection: Redis) -> Redis:
        # RQ raises every timeout to that of its blocking pop; here that one has a client of its own.
        return connection

    def begin(self, slot: Slot) -> None:
        """Register that a job runs here; again for one that already does."""
        self._entries.put(partial(self._record_start, slot))

    def end(self, slot: Slot, error: BaseException | None) -> None:
        """A job has ended; *error*: how it failed."""
        self._entries.put(partial(self._record_end, slot, error))

    def put_back(self, job: Job) -> None:
        """A job that came while the worker was stopping goes to the next one."""
        self._entries.put(partial(self.put_back_now, job))

    def put_back_now(self, job: Job) -> None:
        with contextlib.suppress(RedisError), self.connection.pipeline() as pipeline:
            pipeline.lrem(self.queue.intermediate_queue_key, 1, job.id)
            pipeline.lpush(self.queue.key, job.id)
            pipeline.execute()

    def register_again(self) -> None:
        """The Redis that came back may have forgotten this worker."""
        self._entries.put(self._beat)

    def finish(self) -> None:
        """Every session has ended: `keep` returns once the rest is written."""
        self._ending.set()
        self._entries.put(None)

    def keep(self) -> None:
        """Write what there is to write, with a heartbeat in between, until `finish`; runs on a thread of its own."""
        next_beat = 0.0
        while not self.closing.is_set():
            if time.monotonic() >= next_beat:
                self._write(self._beat)
                next_beat = time.monotonic() + self.job_monitoring_interval
            try:
                entry = self._entries.get(timeout=max(0.0, next_beat - time.monotonic()))
            except queue.Empty:
                continue
            if entry is None:
                self._write(self.register_death)
                return
            if not self._write(entry):
                next_beat = 0.0

    def _write(self, entry: Callable[[], None]) -> bool:
        """Write until Redis has it; False when Redis was away in between."""
        outage = Outage("registries", "registries are not kept", self._ending)
        while True:
            try:
                entry()
            except (RedisConnectionError, RedisTimeoutError) as error:
                if self._ending.is_set():
                    # What is left runs out by itself; nobody should wait for it.
                    self.closing.set()
                    return False
                outage.wait(error)
            except Exception:
                # Registries that can't be written must not take the sessions with them.
                logger.exception("registries could not be written")
                return True
            else:
                return not outage.over()

    def _beat(self) -> None:
        """Register that this worker and its jobs are alive, also in a Redis that has forgotten them."""
        self.last_heartbeat = now()
        with self.connection.pipeline() as pipeline:
            pipeline.hset(self.key, mapping=self.serialize() | {"state": self._state_now()})
            pipeline.expire(self.key, self.worker_ttl + 60)
            worker_registration.register(self, pipeline)
            pipeline.execute()
            running = [slot for slot in list(self.slots.values()) if slot.execution is not None]
            for slot in running:
                pipeline.exists(slot.job.key)
            known = pipeline.execute()
            for slot, is_known in zip(running, known, strict=True):
                if is_known and slot.execution is not None:
                    ttl = self.get_heartbeat_ttl(slot.job)
                    slot.execution.heartbeat(self.queue.started_job_registry, ttl, pipeline=pipeline)
                    slot.job.heartbeat(self.last_heartbeat, ttl, pipeline=pipeline)
            pipeline.execute()
        for slot, is_known in zip(running, known, strict=True):
            if not is_known:
                slot.execution = None
                slot.job.save()
                self._record_start(slot)
        if self.should_run_maintenance_tasks:
            self.clean_registries()

    def _record_start(self, slot: Slot) -> None:
        own = self._copy_for(slot)
        if slot.execution is None:
            slot.execution = own.prepare_execution(slot.job)
        own.prepare_job_execution(slot.job, remove_from_intermediate_queue=True)

    def _record_end(self, slot: Slot, error: BaseException | None) -> None:
        own, job, registry = self._copy_for(slot), slot.job, self.queue.started_job_registry
        # RQ can't end a job that Redis has forgotten. This also hears of a lost connection, which RQ may swallow.
        if not self.connection.exists(job.key):
            job.save()
        job.ended_at = slot.ended_at
        # One that was stopped has done what it was to do: RQ counts its own kind of stopped jobs as failed.
        if error is None or slot.stopped:
            job._status = JobStatus.FINISHED
            own.handle_job_success(job, self.queue, registry)
        else:
            job._status = JobStatus.FAILED
            logger.error("job failed", exc_info=error, extra={"job": job.id})
            exc_string = "".join(traceback.format_exception(error))
            BaseWorker.handle_job_failure(own, job, self.queue, registry, exc_string=exc_string)
        if not self.slots:
            self.set_state(WorkerStatus.IDLE)

    def _copy_for(self, slot: Slot) -> Registries:
        """RQ holds one job in attributes of the worker: give each job a shallow copy of its own."""
        own = copy.copy(self)
        own.execution = slot.execution
        return own

    def _state_now(self) -> str:
        return WorkerStatus.BUSY if self.slots else WorkerStatus.IDLE

    def set_current_job_id(self, job_id: str | None = None, pipeline: Pipeline | None = None) -> None:
        """RQ shows one job for each worker: when it ends, another that still runs takes its place."""
        super().set_current_job_id(job_id or next(iter(list(self.slots)), None), pipeline)

    def handle_job_failure(self, job: Job, *arguments: Any, **options: Any) -> None:
        """RQ's clean-up calls it for a job that a worker took and never began; a session is rung for anew."""
        if rings_for(job.id) is None:
            super().handle_job_failure(job, *arguments, **options)
        else:
            job.delete()

    def _forget_abandoned(self) -> None:
        """Delete jobs of sessions whose workers died: another attempt goes on, so they have not failed."""
        registry = self.queue.started_job_registry
        for job_id in set(registry.get_expired_job_ids()):
            if rings_for(job_id) is not None:
                with contextlib.suppress(NoSuchJobError):
                    self.queue.job_class.fetch(job_id, connection=self.connection, serializer=SERIALIZER).delete()

    def clean_registries(self) -> None:
        """Forget what dead workers left of sessions, and move other jobs to the failed ones; one worker at a time."""
        self.last_cleaned_at = now()  # type: ignore[assignment]  # rq declares it None
        if not self.queue.acquire_maintenance_lock():
            return
        try:
            for clean in (
                self._forget_abandoned,
                StartedJobRegistry(
                    queue=self.queue, job_class=SessionJob, death_penalty_class=TimerDeathPenalty
                ).cleanup,
                FinishedJobRegistry(queue=self.queue, job_class=SessionJob).cleanup,
                FailedJobRegistry(queue=self.queue, job_class=SessionJob).cleanup,
                partial(worker_registration.clean_worker_registry, self.queue),
                partial(self.queue.intermediate_queue.cleanup, self, self.queue),
            ):
                try:
                    clean()
                except RedisError:
                    raise
                except Exception:
                    # A job that somebody else has made may hold anything.
                    logger.exception("registry clean-up failed")
        finally:
            self.queue.release_maintenance_lock()  # type: ignore[no-untyped-call]
