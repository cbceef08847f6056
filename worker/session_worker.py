"""The RQ worker that runs many sessions at once, in one process on one event loop.

    Redis list ── taker thread ──► event loop: one task per session ──► bookkeeper thread ── RQ's registries
                                        ▲ stop-job                          heartbeats, clean-up
                                   pubsub thread

What RQ promises holds for each job: `rq info`, `Job.get_status()` and the clean-up of other workers see it started,
alive, finished, failed or stopped. No session ever waits for Redis: while it is away the bookkeeper keeps what it has
to write, and the taker tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
import queue
import signal
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import FrameType
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue, worker_registration
from rq.command import handle_command, parse_payload
from rq.exceptions import DequeueTimeout
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.suspension import is_suspended
from rq.timeouts import TimerDeathPenalty
from rq.utils import now
from rq.worker import BaseWorker
from rq.worker.base import WorkerStatus

from app.redis_client import open_redis
from app.turn_queue import JOB_FUNCTION, QUEUE_NAME

logger = logging.getLogger(__name__)

#: Pause between two heartbeats; what is silent for 75 s counts as dead.
HEARTBEAT_S = 15
#: Pause between two clean-ups of what dead workers left in the registries.
MAINTENANCE_S = 60
#: Longest wait for a job within one command.
DEQUEUE_S = 10
#: Longest pause before Redis is tried again.
RETRY_S = 2.0
#: How long sessions may take to end once they are cancelled.
LAST_WORDS_S = 5.0

#: How long the registries may be written once all sessions have ended, by a Redis that answers.
BOOKS_LIMIT_S = 30.0

Run = Callable[[str], Awaitable[None]]
Drain = Callable[[float], Awaitable[None]]


class ForeignJob(Exception):
    """The queue held a job that is not a session."""


class WorkerStopped(Exception):
    """The worker ended before the session handed itself back."""


@dataclass(eq=False)
class _Slot:
    """One job that runs here."""

    job: Job
    task: asyncio.Task[None] | None = None
    #: What RQ knows of this run; None until it is recorded.
    execution: Execution | None = None
    ended_at: datetime | None = None
    #: RQ's stop command named this job.
    stopped: bool = False


class SessionWorker(BaseWorker):
    """Takes sessions from the queue and runs up to *concurrency* of them at once.

    Args:
        redis_url: The broker; it may be away, also at the start.
        run: Runs one session. It is cancelled by RQ's stop command.
        drain: Called with a grace period in seconds when the worker stops: returns once no session runs, at the latest
            a little after the grace period. A second call, with 0, may come while the first one waits.
        concurrency: Sessions at once; at that number nothing more is taken from the queue.
        name: Unique among all workers.
        stop_grace_s: The grace period of the first SIGTERM.
    """

    # RQ's own uses SIGALRM, which threads can't.
    death_penalty_class = TimerDeathPenalty

    def __init__(
        self,
        redis_url: str,
        run: Run,
        drain: Drain,
        *,
        concurrency: int = 200,
        name: str | None = None,
        stop_grace_s: float = 20.0,
    ) -> None:
        name = name or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        super().__init__(
            [QUEUE_NAME],
            name=name,
            connection=open_redis(redis_url, timeout_s=5.0),
            worker_ttl=HEARTBEAT_S * 2,
            job_monitoring_interval=HEARTBEAT_S,
            maintenance_interval=MAINTENANCE_S,
            log_job_description=False,
            # It would ask Redis who we are, which may be away.
            prepare_for_work=False,
        )
        self.hostname, self.pid = socket.gethostname(), os.getpid()
        self.birth_date = self.last_heartbeat = now()
        self.queue = self.queues[0]
        self._run = run
        self._drain = drain
        self._stop_grace_s = stop_grace_s
        # Waiting for a job takes longer than any other answer may.
        self._waiting_name = f"{name}-waits"
        self._waiting = open_redis(redis_url, timeout_s=DEQUEUE_S + 5.0, client_name=self._waiting_name)

        self._slots: dict[str, _Slot] = {}
        self._free = threading.Semaphore(concurrency)
        #: What the bookkeeper has to write, in order; None ends it.
        self._entries: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        #: Set: take nothing more.
        self._stop = threading.Event()
        #: Set: every session has ended, only the registries are still written.
        self._ending = threading.Event()
        #: Set: whoever waits for Redis gives up.
        self._closing = threading.Event()
        self._first_signal: tuple[int, float] | None = None
        self._crash: BaseException | None = None

    def _set_connection(self, connection: Redis) -> Redis:
        # RQ raises every timeout to that of its blocking pop; here that one has a client of its own.
        return connection

    # The event loop

    async def serve(self) -> None:
        """Work until SIGTERM, SIGINT or `request_stop`; returns with nothing running and the registries clean.

        Raises:
            Exception: a thread of the worker failed for another reason than Redis.
        """
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Only the main thread gets signals.
            with contextlib.suppress(ValueError, RuntimeError):
                self._loop.add_signal_handler(number, self.request_stop, number)
        taker = self._thread(self._take_jobs)
        bookkeeper = self._thread(self._keep_books)
        subscriber = self._thread(self.subscribe)
        logger.info("worker started", extra={"worker": self.name})
        await self._stopping.wait()

        logger.info("worker stopping", extra={"worker": self.name, "sessions": len(self._slots)})
        self._stop.set()
        self._free.release()
        woken = asyncio.create_task(asyncio.to_thread(self._wake, taker))
        await self._drain_sessions()
        await self._cancel_sessions()
        self._ending.set()
        self._entries.put(None)
        await asyncio.to_thread(bookkeeper.join, BOOKS_LIMIT_S)
        self._closing.set()
        await woken
        await asyncio.to_thread(self.unsubscribe)
        await asyncio.to_thread(subscriber.join, 1.0)
        await asyncio.to_thread(self._disconnect)
        logger.info("worker stopped", extra={"worker": self.name})
        if self._crash is not None:
            raise self._crash

    def request_stop(self, signum: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Stop after the grace period; asked again, hand everything back at once. Call it on the loop."""
        if self._first_signal is None:
            self._first_signal = (signum, time.monotonic())
            self._stopping.set()
            return
        first, at = self._first_signal
        # A terminal's Ctrl-C reaches the whole group, and the runner of a Procfile passes it on as SIGTERM.
        if signum != first and time.monotonic() - at < 1:
            return
        self._hurry.set()

    async def _drain_sessions(self) -> None:
        patient = asyncio.create_task(self._call_drain(self._stop_grace_s))
        hurry = asyncio.create_task(self._hurry.wait())
        limit_s = self._stop_grace_s + LAST_WORDS_S
        await asyncio.wait({patient, hurry}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if patient.done():
            return
        logger.info("worker hands back at once", extra={"worker": self.name, "sessions": len(self._slots)})
        at_once = asyncio.create_task(self._call_drain(0.0))
        await asyncio.wait({patient, at_once}, timeout=LAST_WORDS_S)
        patient.cancel()
        at_once.cancel()

    async def _call_drain(self, grace_s: float) -> None:
        try:
            await self._drain(grace_s)
        except Exception:
            logger.exception("sessions could not be handed back", extra={"worker": self.name})

    async def _cancel_sessions(self) -> None:
        # Sessions that the drain has ended need a moment to return.
        for cancel in (False, True):
            tasks = {slot.task for slot in self._slots.values() if slot.task is not None}
            if not tasks:
                return
            for task in tasks if cancel else ():
                task.cancel()
            await asyncio.wait(tasks, timeout=LAST_WORDS_S if cancel else 1.0)

    def _begin(self, job: Job) -> None:
        if self._stop.is_set():
            # The drain has begun: it would only be dropped here.
            self._entries.put(partial(self._put_back, job))
            return
        if job.id in self._slots:
            # Rung again while it runs: tell RQ that it is still at it.
            self._free.release()
            self._entries.put(partial(self._record_start, self._slots[job.id]))
            return
        slot = self._slots[job.id] = _Slot(job)
        self._entries.put(partial(self._record_start, slot))
        slot.task = self._loop.create_task(self._perform(job), name=job.id)
        slot.task.add_done_callback(partial(self._end, slot))

    async def _perform(self, job: Job) -> None:
        if job.func_name != JOB_FUNCTION:
            raise ForeignJob(f"this worker runs {JOB_FUNCTION} only, not {job.func_name}")
        async with asyncio.timeout(job.timeout if job.timeout and job.timeout > 0 else None):
            await self._run(*job.args)

    def _end(self, slot: _Slot, task: asyncio.Task[None]) -> None:
        # A callback and no `finally`: a task that is cancelled before its first step runs none of its code.
        del self._slots[slot.job.id]
        self._free.release()
        slot.ended_at = now()
        error = WorkerStopped("the worker was stopped") if task.cancelled() else task.exception()
        self._entries.put(partial(self._record_end, slot, error))

    def _stop_job(self, job_id: str) -> None:
        slot = self._slots.get(job_id)
        if slot is None or slot.task is None:
            logger.info("stop ignored, the job does not run here", extra={"job": job_id})
            return
        slot.stopped = True
        slot.task.cancel()

    # The taker

    def _take_jobs(self) -> None:
        while True:
            self._free.acquire()
            job = self._wait_for_job()
            if job is None:
                return
            self._loop.call_soon_threadsafe(self._begin, job)

    def _wait_for_job(self) -> Job | None:
        """The next job; None once the worker stops."""
        outage = _Outage("no jobs are taken", self._stop)
        while not self._stop.is_set():
            try:
                if is_suspended(self.connection):
                    self._stop.wait(1.0)
                    continue
                taken = Queue.dequeue_any([self.queue], DEQUEUE_S, connection=self._waiting)
            except DequeueTimeout:
                self._after(outage)
                continue
            except RedisError as error:
                outage.wait(error)
                continue
            except Exception as error:  # noqa: BLE001 - whatever a foreign job holds, sessions go on
                self._discard(error)
                continue
            self._after(outage)
            assert taken is not None
            job = taken[0]
            job.connection = self.connection
            if self._stop.is_set():
                self._put_back(job)
                return None
            return job
        return None

    def _after(self, outage: _Outage) -> None:
        if outage.over():
            # The Redis that came back may have forgotten this worker.
            self._entries.put(self._beat)

    def _put_back(self, job: Job) -> None:
        """A job that came while the worker was stopping goes to the next one."""
        with contextlib.suppress(RedisError), self.connection.pipeline() as pipeline:
            pipeline.lrem(self.queue.intermediate_queue_key, 1, job.id)
            pipeline.lpush(self.queue.key, job.id)
            pipeline.execute()

    def _discard(self, error: Exception) -> None:
        """A job whose hash can't be read goes no further; a session of that kind is rung again."""
        job_id = getattr(error, "job_id", None)
        logger.error("unreadable job dropped", exc_info=error, extra={"job": job_id})
        with contextlib.suppress(RedisError):
            if job_id is not None:
                self.connection.lrem(self.queue.intermediate_queue_key, 1, job_id)
        # Whatever it is, it must not become a busy loop.
        self._stop.wait(0.1)

    def _wake(self, taker: threading.Thread) -> None:
        """Return once the taker has ended; its wait inside Redis is cut short."""
        while taker.is_alive() and not self._closing.is_set():
            # Closing its connection instead could lose a job that is just on its way.
            with contextlib.suppress(RedisError):
                for client in self.connection.client_list():
                    if client.get("name") == self._waiting_name:
                        self.connection.client_unblock(int(client["id"]))
            taker.join(0.05)

    # The bookkeeper

    def _keep_books(self) -> None:
        next_beat = 0.0
        while not self._closing.is_set():
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
        outage = _Outage("registries are not kept", self._ending)
        while True:
            try:
                entry()
            except (RedisConnectionError, RedisTimeoutError) as error:
                if self._ending.is_set():
                    # What is left runs out by itself; nobody should wait for it.
                    self._closing.set()
                    return False
                outage.wait(error)
            except Exception:
                # Bookkeeping that can't be done must not take the sessions with it.
                logger.exception("bookkeeping failed")
                return True
            else:
                return not outage.over()

    def _beat(self) -> None:
        """Tell RQ that this worker and its jobs are alive, also a Redis that has forgotten them."""
        self.last_heartbeat = now()
        with self.connection.pipeline() as pipeline:
            pipeline.hset(self.key, mapping=self.serialize() | {"state": self._state_now()})
            pipeline.expire(self.key, self.worker_ttl + 60)
            worker_registration.register(self, pipeline)
            pipeline.execute()
            running = [slot for slot in list(self._slots.values()) if slot.execution is not None]
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

    def _record_start(self, slot: _Slot) -> None:
        books = self._books(slot)
        if slot.execution is None:
            slot.execution = books.prepare_execution(slot.job)
        books.prepare_job_execution(slot.job, remove_from_intermediate_queue=True)

    def _record_end(self, slot: _Slot, error: BaseException | None) -> None:
        books, job, registry = self._books(slot), slot.job, self.queue.started_job_registry
        # RQ can't end a job that Redis has forgotten. This also hears of a lost connection, which RQ may swallow.
        if not self.connection.exists(job.key):
            job.save()
        job.ended_at = slot.ended_at
        if slot.stopped:
            books._stopped_job_id = job.id
            if job.stopped_callback:
                job.execute_stopped_callback(self.death_penalty_class)
            books.handle_job_failure(job, self.queue, registry, exc_string="Job stopped by user.")
        elif error is None:
            job._status = JobStatus.FINISHED
            books.handle_job_success(job, self.queue, registry)
        else:
            job._status = JobStatus.FAILED
            logger.error("job failed", exc_info=error, extra={"job": job.id})
            exc_string = "".join(traceback.format_exception(error))
            books.handle_job_failure(job, self.queue, registry, exc_string=exc_string)
        if not self._slots:
            self.set_state(WorkerStatus.IDLE)

    def _books(self, slot: _Slot) -> SessionWorker:
        """RQ's bookkeeping holds one job in attributes of the worker: give each job its own shallow copy."""
        books = copy.copy(self)
        books.execution = slot.execution
        return books

    def _state_now(self) -> str:
        return WorkerStatus.BUSY if self._slots else WorkerStatus.IDLE

    def set_current_job_id(self, job_id: str | None = None, pipeline: Pipeline | None = None) -> None:
        """RQ shows one job for each worker: when it ends, another that still runs takes its place."""
        super().set_current_job_id(job_id or next(iter(list(self._slots)), None), pipeline)

    def clean_registries(self) -> None:
        """Move what dead workers left to the failed jobs; one worker at a time."""
        self.last_cleaned_at = now()  # type: ignore[assignment]  # rq declares it None
        if not self.queue.acquire_maintenance_lock():
            return
        try:
            for clean in (
                StartedJobRegistry(queue=self.queue, death_penalty_class=TimerDeathPenalty).cleanup,
                FinishedJobRegistry(queue=self.queue).cleanup,
                FailedJobRegistry(queue=self.queue).cleanup,
                partial(worker_registration.clean_worker_registry, self.queue),
                partial(self.queue.intermediate_queue.cleanup, self, self.queue),
            ):
                try:
                    clean()
                except RedisError:
                    raise
                except Exception:
                    # Callbacks of abandoned jobs run in there, and RQ lets through what they raise.
                    logger.exception("registry clean-up failed")
        finally:
            self.queue.release_maintenance_lock()  # type: ignore[no-untyped-call]

    # Commands

    def subscribe(self) -> None:
        """Listen for RQ's commands until the worker closes; Redis may be away, also at first."""
        outage = _Outage("no commands are heard", self._closing)
        self.pubsub = channel = self.connection.pubsub()  # type: ignore[no-untyped-call]
        while not self._closing.is_set():
            try:
                # The client subscribes again by itself on each new connection.
                if not channel.subscribed:
                    channel.subscribe(**{self.pubsub_channel_name: self.handle_payload})
                channel.get_message(ignore_subscribe_messages=True, timeout=60)
                outage.over()
            except RedisError as error:
                outage.wait(error)

    def unsubscribe(self) -> None:
        """Wake `subscribe`, which then ends."""
        with contextlib.suppress(RedisError):
            if self.pubsub is not None:
                self.pubsub.unsubscribe()  # type: ignore[no-untyped-call]

    def handle_payload(self, message: dict[str, Any]) -> None:
        """One command from RQ; whatever it holds, the worker goes on."""
        try:
            payload = parse_payload(message)
            if payload["command"] == "stop-job":
                self._loop.call_soon_threadsafe(self._stop_job, payload["job_id"])
            else:
                handle_command(self, payload)
        except Exception:
            logger.exception("command not understood")

    # Threads

    def _thread(self, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._watched, args=(target,), name=target.__name__.strip("_"), daemon=True)
        thread.start()
        return thread

    def _watched(self, target: Callable[[], None]) -> None:
        try:
            target()
        except Exception as error:
            if self._closing.is_set():
                return
            # A worker without one of its threads would look alive and do nothing.
            logger.exception("worker thread failed")
            self._crash = error
            self._loop.call_soon_threadsafe(self.request_stop)

    def _disconnect(self) -> None:
        if self.pubsub is not None:
            self.pubsub.close()
        self.connection.close()
        self._waiting.close()


class _Outage:
    """Pauses while Redis is away, longer each time, and says so once."""

    def __init__(self, what: str, given_up: threading.Event) -> None:
        self._what = what
        self._given_up = given_up
        self._delay_s = 0.0

    def wait(self, error: RedisError) -> None:
        if not self._delay_s:
            logger.warning("redis is away: %s", self._what, extra={"error": str(error)})
        self._delay_s = min(max(0.1, self._delay_s * 2), RETRY_S)
        self._given_up.wait(self._delay_s)

    def over(self) -> bool:
        """Redis answers; true when it had been away."""
        was_away = self._delay_s > 0
        if was_away:
            logger.info("redis is back")
        self._delay_s = 0.0
        return was_away
