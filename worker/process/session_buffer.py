"""The buffer between one session and the event writer: events handed over, the batch being written, its waiters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from app.errors import Fenced
from app.events import Delta, Event, JsonText, OpenRequest, Terminal, Thinking, ToolCall, Usage, coalesce
from app.sessions import observed
from app.sessions.claims import Claim
from app.sessions.commit import Batch, Committed
from worker.plain import NotPlain, TooLarge, to_json

if TYPE_CHECKING:
    from .event_writer import EventWriter

#: A session waits when it is so far ahead of the database.
SESSION_BUFFER_CHARACTERS = 1024 * 1024
SESSION_BUFFER_EVENTS = 10_000
#: A model request is stored as open at the latest after this, so that a cancel counts it.
OPEN_REQUEST_S = 0.25


class RecordingFailed(Exception):
    """The database refuses what this session wants to store; nothing of its last batch was written."""


class SessionBuffer:
    """The events of one session on their way to the database. Made by `EventWriter.open`."""

    def __init__(self, writer: EventWriter, claim: Claim, on_stopped: Callable[[], object]) -> None:
        self.claim = claim
        #: The attempt is no longer current; nothing more is written.
        self.fenced = False
        #: The terminal event is committed.
        self.finished = False
        #: Somebody else has locked its row: the batch in flight is tried again.
        self.held_up = False
        #: The database refused what this session wanted to store.
        self.failure: RecordingFailed | None = None
        # A later attempt goes on with what was said.
        self._says_nothing_yet = claim.attempt == 1
        self._writer = writer
        self._on_stopped = on_stopped
        self._after = claim.last_seq
        # Runs of events that may be coalesced; a checkpoint closes a run.
        self._runs: list[list[Event]] = [[]]
        self._checkpoint: str | None = None
        self._checkpoint_runs = 0
        self._used: tuple[Usage, OpenRequest | None] | None = None
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
    def waiting(self) -> int:
        """Events that are not known to be committed."""
        return self._count + (len(self._in_flight.events) if self._in_flight is not None else 0)

    @property
    def busy(self) -> bool:
        """Something waits to be written, or may have been without its outcome being known."""
        gathered = self._count > 0 or self._checkpoint is not None or self._used is not None
        return self._in_flight is not None or gathered

    async def put(self, event: Event, *, urgent: bool = False) -> None:
        """Hand over an event that does not end the session; waits while the buffer is full.

        Raises:
            Fenced: the attempt is no longer current.
        """
        if not self._room.is_set():
            await self._room.wait()
        self._check()
        if self._says_nothing_yet and isinstance(event, Delta):
            self._says_nothing_yet = False
            observed.first_text(self.claim)
        self._runs[-1].append(event)
        self._size += size_of(event)
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

    def use(self, used: Usage, request: OpenRequest | None) -> None:
        """What the session has used until now and the request that it has open: stored with what comes next."""
        self._used = used, request
        if request is not None:
            # Most models say something by then: a flush of its own would be one more commit for each request.
            asyncio.get_running_loop().call_later(OPEN_REQUEST_S, self._writer.wake)

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
        self._in_flight = Batch(self.claim, self._after, events, checkpoint, used=self._used)
        self._flight_waiters, self._waiters = self._waiters, []
        self._runs, self._checkpoint, self._checkpoint_runs, self._used = [[]], None, 0, None
        self._size = self._count = 0
        self._room.set()
        return self._in_flight

    def in_doubt(self) -> None:
        """The batch in flight may have been committed or not."""
        if self._in_flight is not None and not self._in_flight.retried:
            self._in_flight = replace(self._in_flight, retried=True)

    def settle(self, outcome: Committed) -> None:
        """The batch in flight is committed, waits for a lock, or is refused: the attempt is no longer current."""
        self.held_up = outcome.held_up
        if outcome.held_up:
            return
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
            # Events that arrived during the retry woke a flush that could not take them: wake it again.
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
        self._in_flight, self._checkpoint, self._runs, self._used = None, None, [[]], None
        self._checkpoint_runs = self._size = self._count = 0
        self._room.set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)


def size_of(event: Event) -> int:
    if isinstance(event, Delta | Thinking):
        return len(event.content)
    if isinstance(event, ToolCall):
        return len(event.tool_result or "") + _size_of_arguments(event.tool_args) + 200
    return 0


def _size_of_arguments(args: object) -> int:
    if isinstance(args, JsonText):
        return len(args.text)
    try:
        return len(to_json(args, SESSION_BUFFER_CHARACTERS).text)
    except TooLarge:
        return SESSION_BUFFER_CHARACTERS
    except NotPlain:
        # The flush refuses them.
        return 0
