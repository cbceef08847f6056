"""The RQ worker that runs many sessions at once, in one process on one event loop.

    Redis list ── taker thread ──► event loop: one task per session ──► registries thread ── RQ
                                        ▲ stop-job                          heartbeats, clean-up
                                   pubsub thread

What RQ promises holds for each job: `rq info`, `Job.get_status()` and the clean-up of other workers see it started,
alive, finished, failed or stopped. No session ever waits for Redis: while it is away the registries keep what they have
to write, and the taker tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from types import FrameType
from typing import Any

from redis.exceptions import RedisError
from rq.command import handle_command, parse_payload
from rq.job import Job
from rq.utils import now

from app.broker.jobs import JOB_FUNCTION

from .outage import Outage
from .registries import Registries, Slot
from .taker import Taker

logger = logging.getLogger(__name__)

#: How long sessions may take to end once they are cancelled.
CANCEL_GRACE_S = 5.0
#: How long the registries may be written once all sessions have ended, by a Redis that answers.
REGISTRIES_LIMIT_S = 30.0

Run = Callable[[str], Awaitable[None]]
Drain = Callable[[float], Awaitable[None]]


class ForeignJob(Exception):
    """The queue held a job that is not a session."""


class WorkerStopped(Exception):
    """The worker ended before the session handed itself back."""


class SessionWorker:
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
        self.name = name
        self._registries = Registries(redis_url, name)
        self._run = run
        self._drain = drain
        self._stop_grace_s = stop_grace_s
        self._taker = Taker(redis_url, self._registries, concurrency)
        self._first_signal: tuple[int, float] | None = None
        self._crash: BaseException | None = None

    # The event loop

    async def serve(self) -> None:
        """Work until SIGTERM, SIGINT or `request_stop`; returns with nothing running and the registries clean.

        Raises:
            Exception: what `fail` was told, or a thread of the worker failed for another reason than Redis.
        """
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Only the main thread gets signals.
            with contextlib.suppress(ValueError, RuntimeError):
                self._loop.add_signal_handler(number, self.request_stop, number)
        taker = self._thread("taker", partial(self._taker.take, self._deliver))
        keeper = self._thread("registries", self._registries.keep)
        subscriber = self._thread("commands", self._subscribe)
        logger.info("worker started", extra={"worker": self.name})
        try:
            await self._stopping.wait()
        except asyncio.CancelledError:
            # Nobody cancels it but the code of a session that cancels every task it finds.
            self.fail(WorkerStopped("the worker's own task was cancelled"))

        logger.info("worker stopping", extra={"worker": self.name, "sessions": len(self._registries.slots)})
        self._taker.stop()
        woken = asyncio.create_task(asyncio.to_thread(self._taker.wake, taker))
        await self._drain_sessions()
        await self._cancel_sessions()
        self._registries.finish()
        await asyncio.to_thread(keeper.join, REGISTRIES_LIMIT_S)
        self._registries.closing.set()
        await woken
        await asyncio.to_thread(self._unsubscribe)
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

    def fail(self, error: Exception) -> None:
        """Hand everything back at once and have `serve` raise *error*. Call it on the loop."""
        if self._crash is None:
            self._crash = error
        self._stopping.set()
        self._hurry.set()

    async def _drain_sessions(self) -> None:
        patient = asyncio.create_task(self._call_drain(self._stop_grace_s))
        hurry = asyncio.create_task(self._hurry.wait())
        limit_s = self._stop_grace_s + CANCEL_GRACE_S
        await asyncio.wait({patient, hurry}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if patient.done():
            return
        logger.info("worker hands back at once", extra={"worker": self.name, "sessions": len(self._registries.slots)})
        at_once = asyncio.create_task(self._call_drain(0.0))
        await asyncio.wait({patient, at_once}, timeout=CANCEL_GRACE_S)
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
            tasks = {slot.task for slot in self._registries.slots.values() if slot.task is not None}
            if not tasks:
                return
            for task in tasks if cancel else ():
                task.cancel()
            await asyncio.wait(tasks, timeout=CANCEL_GRACE_S if cancel else 1.0)

    def _deliver(self, job: Job) -> None:
        self._loop.call_soon_threadsafe(self._begin, job)

    def _begin(self, job: Job) -> None:
        if self._taker.stopped:
            # The drain has begun: it would only be dropped here.
            self._registries.put_back(job)
            return
        if job.id in self._registries.slots:
            # Rung again while it runs: RQ must see that it still does.
            self._taker.free()
            self._registries.begin(self._registries.slots[job.id])
            return
        slot = self._registries.slots[job.id] = Slot(job)
        self._registries.begin(slot)
        slot.task = self._loop.create_task(self._perform(job), name=job.id)
        slot.task.add_done_callback(partial(self._end, slot))

    async def _perform(self, job: Job) -> None:
        if job.func_name != JOB_FUNCTION:
            raise ForeignJob(f"this worker runs {JOB_FUNCTION} only, not {job.func_name}")
        async with asyncio.timeout(job.timeout if job.timeout and job.timeout > 0 else None):
            await self._run(*job.args)

    def _end(self, slot: Slot, task: asyncio.Task[None]) -> None:
        # A callback and no `finally`: a task that is cancelled before its first step runs none of its code.
        del self._registries.slots[slot.job.id]
        self._taker.free()
        slot.ended_at = now()
        error = WorkerStopped("the worker was stopped") if task.cancelled() else task.exception()
        self._registries.end(slot, error)

    def _stop_job(self, job_id: str) -> None:
        slot = self._registries.slots.get(job_id)
        if slot is None or slot.task is None:
            logger.info("stop ignored, the job does not run here", extra={"job": job_id})
            return
        slot.stopped = True
        slot.task.cancel()

    # Commands

    def _subscribe(self) -> None:
        """Listen for RQ's commands until the worker closes; Redis may be away, also at first."""
        outage = Outage("commands", "no commands are heard", self._registries.closing)
        self._pubsub = channel = self._registries.connection.pubsub()  # type: ignore[no-untyped-call]
        while not self._registries.closing.is_set():
            try:
                # The client subscribes again by itself on each new connection.
                if not channel.subscribed:
                    channel.subscribe(**{self._registries.pubsub_channel_name: self._handle_payload})
                channel.get_message(ignore_subscribe_messages=True, timeout=60)
                outage.over()
            except RedisError as error:
                outage.wait(error)

    def _unsubscribe(self) -> None:
        """Wake `_subscribe`, which then ends."""
        with contextlib.suppress(RedisError):
            if self._pubsub is not None:
                self._pubsub.unsubscribe()

    def _handle_payload(self, message: dict[str, Any]) -> None:
        """One command from RQ; whatever it holds, the worker goes on."""
        try:
            payload = parse_payload(message)
            if payload["command"] == "stop-job":
                self._loop.call_soon_threadsafe(self._stop_job, payload["job_id"])
            else:
                handle_command(self._registries, payload)
        except Exception:
            logger.exception("command not understood")

    # Threads

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._watched, args=(target,), name=name, daemon=True)
        thread.start()
        return thread

    def _watched(self, target: Callable[[], None]) -> None:
        try:
            target()
        except Exception as error:
            if self._registries.closing.is_set():
                return
            # A worker without one of its threads would look alive and do nothing.
            logger.exception("worker thread failed")
            self._crash = error
            self._loop.call_soon_threadsafe(self.request_stop)

    def _disconnect(self) -> None:
        if self._pubsub is not None:
            self._pubsub.close()
        self._registries.connection.close()
        self._taker.close()
