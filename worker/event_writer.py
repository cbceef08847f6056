"""The event writer: one per worker process, group commit for all of its sessions.

Sessions hand it events and go on. Every flush writes what all of them have gathered in one transaction
(`app.recording`). While the database is away the same flush is tried again until it is known to be committed;
sessions fill their bounded buffers and then wait. A session whose attempt is no longer current is fenced: nothing of
it is written any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from app import recording, session_list
from app.errors import DatabaseUnavailable, Fenced
from app.events import Delta, Event, Terminal, Thinking, ToolCall, coalesce
from app.heads import Head, Heads
from app.recording import Recorded
from app.sessions import Batch, Claim

logger = logging.getLogger(__name__)

#: A session waits when it is so far ahead of the database.
SESSION_BUFFER_CHARACTERS = 1024 * 1024
SESSION_BUFFER_EVENTS = 10_000
#: One transaction takes no more than this (but at least one session).
FLUSH_CHARACTERS = 8 * 1024 * 1024
#: How often standing and heads of the live sessions are looked up: twice within the time to live of a head.
WATCH_S = 0.4
_RETRY_S = (0.1, 0.2, 0.5, 1.0)


class RecordingFailed(Exception):
    """The database refuses what this session wants to store; nothing of its last batch was written."""


class Recorder:
    """One session's way into the writer. Made by `EventWriter.open`."""

    def __init__(self, writer: EventWriter, claim: Claim, on_stopped: Callable[[], object]) -> None:
        self.claim = claim
        #: The attempt is no longer current; nothing more is written.
        self.fenced = False
        #: The terminal event is committed.
        self.finished = False
        #: The database refused what this session wanted to store.
        self.failure: RecordingFailed | None = None
        self._writer = writer
        self._on_stopped = on_stopped
        self._after = claim.last_seq
        # Runs of events that may be coalesced; a checkpoint closes a run.
        self._runs: list[list[Event]] = [[]]
        self._checkpoint: str | None = None
        self._checkpoint_runs = 0
        self._size = 0
        self._count = 0
        self._room = asyncio.Event()
        self._room.set()
        self._in_flight: Batch | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._flight_waiters: list[asyncio.Future[None]] = []

    @property
    def last_seq(self) -> int:
        """Newest seq known to be committed."""
        return self._after

    @property
    def busy(self) -> bool:
        """Something waits to be written, or may have been without its outcome being known."""
        return self._in_flight is not None or self._count > 0 or self._checkpoint is not None

    async def put(self, event: Event, *, urgent: bool = False) -> None:
        """Hand over an event that does not end the session; waits while the buffer is full.

        Raises:
            Fenced: the attempt is no longer current.
        """
        if not self._room.is_set():
            await self._room.wait()
        self._check()
        self._runs[-1].append(event)
        self._size += _size(event)
        self._count += 1
        if self._size > SESSION_BUFFER_CHARACTERS or self._count > SESSION_BUFFER_EVENTS:
            self._room.clear()
        self._writer.wake(urgent=urgent)

    async def checkpoint(self, state: str) -> None:
        """Store *state* (JSON text) with all events so far; returns when it is committed.

        Raises:
            Fenced: the attempt is no longer current.
            RecordingFailed: the database refuses it.
        """
        self._check()
        self._checkpoint = state
        self._checkpoint_runs = len(self._runs)
        self._runs.append([])
        await self._committed()

    async def finish(self, terminal: Terminal) -> None:
        """End the session; returns when that is committed.

        Raises:
            Fenced: the attempt is no longer current.
            RecordingFailed: the database refuses it.
        """
        self._check()
        self._runs[-1].append(terminal)
        self._count += 1
        await self._committed()

    async def _committed(self) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(done)
        self._writer.wake(urgent=True)
        await done

    def close(self) -> None:
        """Forget what is not written yet."""
        self._writer.forget(self)

    def _check(self) -> None:
        if self.fenced:
            raise Fenced("the attempt is no longer current")
        if self.failure is not None:
            raise self.failure

    # What follows is called by the writer.

    def take(self) -> Batch | None:
        """The batch to write now: the one that is in flight, else what has gathered; None: nothing."""
        if self._in_flight is not None:
            return self._in_flight
        if not self.busy:
            return None
        events: list[Event] = []
        covered = 0
        for index, run in enumerate(self._runs, start=1):
            events += coalesce(run)
            if index == self._checkpoint_runs:
                covered = len(events)
        checkpoint = (self._checkpoint, covered) if self._checkpoint is not None else None
        self._in_flight = Batch(self.claim, self._after, events, checkpoint)
        self._flight_waiters, self._waiters = self._waiters, []
        self._runs, self._checkpoint, self._checkpoint_runs = [[]], None, 0
        self._size = self._count = 0
        self._room.set()
        return self._in_flight

    def in_doubt(self) -> None:
        """The batch in flight may have been committed or not."""
        if self._in_flight is not None and not self._in_flight.retried:
            batch = self._in_flight
            self._in_flight = Batch(batch.claim, batch.after, batch.events, batch.checkpoint, retried=True)

    def settle(self, outcome: Recorded) -> None:
        """The batch in flight is committed, or refused because the attempt is no longer current."""
        if not outcome.current:
            self.fence()
            return
        self._in_flight = None
        self._after = outcome.last_seq
        self.finished = outcome.status != "running"
        waiters, self._flight_waiters = self._flight_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self.busy:
            # What came while this batch was tried again rang for a flush that could not take it.
            self._writer.wake(urgent=bool(self._waiters))

    def fence(self) -> None:
        """Write nothing more of this session and stop its run."""
        if self.fenced:
            return
        self.fenced = True
        self._drop(Fenced("the attempt is no longer current"))
        self._on_stopped()

    def fail(self, error: Exception) -> None:
        """The database refuses the batch in flight for what is in it."""
        self.failure = RecordingFailed(str(error))
        self.failure.__cause__ = error
        self._drop(self.failure)
        self._on_stopped()

    def _drop(self, error: Exception) -> None:
        waiters = self._flight_waiters + self._waiters
        self._flight_waiters, self._waiters = [], []
        self._in_flight, self._checkpoint, self._runs = None, None, [[]]
        self._checkpoint_runs = self._size = self._count = 0
        self._room.set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)


def _size(event: Event) -> int:
    if isinstance(event, Delta | Thinking):
        return len(event.content)
    return len(event.tool_result or "") + 200 if isinstance(event, ToolCall) else 0


class EventWriter:
    """Gathers, numbers and commits the events of all sessions of this process.

    Args:
        flush_s: How long events gather before they are written.
        record: Commits batches; runs on the writer's own thread.
        standings: Looks up where sessions stand; runs on the same thread, so that what it reads is never older than
            what was committed before.
    """

    def __init__(
        self,
        heads: Heads,
        *,
        flush_s: float,
        record: Callable[[Sequence[Batch]], list[Recorded]] = recording.record,
        standings: Callable[..., dict[int, session_list.Standing]] = session_list.standings,
    ) -> None:
        self._heads = heads
        self._flush_s = flush_s
        self._record = record
        self._standings = standings
        self._recorders: dict[int, Recorder] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="event-writer")
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._flush_for_ever()), asyncio.create_task(self._watch_for_ever())]

    async def close(self) -> None:
        """Stop writing. Whatever is not committed is left to the next attempt."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._thread.shutdown(wait=True)

    def open(self, claim: Claim, on_stopped: Callable[[], object]) -> Recorder:
        """A recorder for *claim*; *on_stopped* is called when nothing more can be written of it."""
        recorder = Recorder(self, claim, on_stopped)
        # A dead attempt of the same session may still be here: it writes nothing from now on.
        earlier = self._recorders.get(claim.row_id)
        self._recorders[claim.row_id] = recorder
        if earlier is not None:
            earlier.fence()
        return recorder

    def forget(self, recorder: Recorder) -> None:
        if self._recorders.get(recorder.claim.row_id) is recorder:
            del self._recorders[recorder.claim.row_id]

    def claims(self) -> list[Claim]:
        """The claims that are being worked on."""
        return [recorder.claim for recorder in self._recorders.values() if not recorder.fenced]

    def wake(self, *, urgent: bool = False) -> None:
        """There is something to write; *urgent*: somebody waits for it."""
        self._news.set()
        if urgent:
            self._urgent.set()

    async def _flush_for_ever(self) -> None:
        failures = 0
        while True:
            await self._news.wait()
            if failures:
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S)) - 1])
            elif not self._urgent.is_set():
                await _first(self._urgent, self._flush_s)
            self._news.clear()
            self._urgent.clear()
            try:
                await self._flush()
                failures = 0
            except DatabaseUnavailable:
                failures += 1
                self._news.set()
                if failures == 1:
                    logger.warning("database can't be reached, events wait")

    async def _flush(self) -> None:
        taken: list[tuple[Recorder, Batch]] = []
        size = 0
        for recorder in list(self._recorders.values()):
            try:
                batch = recorder.take()
            except Exception as error:
                # What an orchestrator yields may be of any type; it must not end the writer of all sessions.
                logger.exception("events refused", extra={"session_id": recorder.claim.session_id})
                recorder.fail(error)
                continue
            if batch is None:
                continue
            taken.append((recorder, batch))
            size += sum(_size(event) for event in batch.events)
            if size > FLUSH_CHARACTERS:
                # The others at once after this one.
                self.wake(urgent=True)
                break
        if taken:
            await self._write(taken)

    async def _write(self, taken: list[tuple[Recorder, Batch]]) -> None:
        try:
            outcomes = await self._run(self._record_and_publish, [batch for _, batch in taken])
        except DatabaseUnavailable:
            for recorder, _ in taken:
                recorder.in_doubt()
            raise
        except Exception as error:
            if len(taken) == 1:
                logger.exception("events refused", extra={"session_id": taken[0][1].claim.session_id})
                taken[0][0].fail(error)
                return
            # Something in one batch is at fault: the other sessions must not suffer from it.
            for each in taken:
                await self._write([each])
            return
        for (recorder, _), outcome in zip(taken, outcomes, strict=True):
            recorder.settle(outcome)

    def _record_and_publish(self, batches: Sequence[Batch]) -> list[Recorded]:
        outcomes = self._record(batches)
        self._heads.publish(
            Head(batch.claim.session_id, batch.claim.owner, outcome.last_seq, outcome.status, time.time())
            for batch, outcome in zip(batches, outcomes, strict=True)
            if outcome.current
        )
        return outcomes

    async def _watch_for_ever(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            # Only claims made before the look: what it reads is at least as new as they are.
            watched = dict(self._recorders)
            try:
                standings = await self._run(self._look_and_publish, list(watched))
            except DatabaseUnavailable:
                continue
            except Exception:
                logger.exception("standings could not be read")
                continue
            for row_id, recorder in watched.items():
                if recorder.busy or recorder.finished or recorder.fenced:
                    continue  # the next flush decides, or has decided
                standing = standings.get(row_id)
                if standing is None or standing.attempt != recorder.claim.attempt or standing.status != "running":
                    recorder.fence()

    def _look_and_publish(self, row_ids: list[int]) -> dict[int, session_list.Standing]:
        standings = self._standings(row_ids)
        self._heads.publish(
            (
                Head(each.session_id, each.owner, each.last_seq, each.status, each.updated_at.timestamp())
                for each in standings.values()
            ),
            news=False,
        )
        return standings

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


async def _first(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
