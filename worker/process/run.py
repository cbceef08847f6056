"""One attempt at one session: drive the orchestrator, hand what it yields to the event writer, commit the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import replace
from enum import Enum
from typing import Any, TypeVar

from app import db, sessions
from app.agents import Agents
from app.errors import DatabaseBusy, DatabaseUnavailable, Fenced, NotFound
from app.events import Done, Error, Terminal, Thinking, Usage, log
from app.sessions import claims, observed
from app.sessions.claims import Claim
from app.settings import Settings
from worker.orchestrator import Asked, CancelScope, Turn, TurnFailed, Withdrawal, Yielded, is_stopped

from .budgets import Budgets
from .door import Door, State
from .event_writer import EventWriter
from .failures import ORCHESTRATOR_ERROR, failure_of
from .preparation import prepare
from .session_buffer import RecordingFailed, SessionBuffer
from .spending import Spending

logger = logging.getLogger(__name__)

#: How long a stopped orchestrator may take to close what it has open.
CLOSE_S = 5.0

#: What `Run` drives: an orchestrator as an async generator.
Answer = Callable[[Turn], AsyncGenerator[Yielded, None]]
InThread = Callable[..., Any]

T = TypeVar("T")
_READ_AGAIN_S = 0.5


class Stop(Enum):
    """Why a run is stopped from within its process."""

    #: Somebody asked RQ to stop the job.
    CANCEL = "cancel"
    #: The worker is going away; another one goes on.
    HAND_BACK = "hand_back"


class Run:
    """One attempt at one session."""

    def __init__(
        self,
        claim: Claim,
        *,
        answer: Answer,
        writer: EventWriter,
        agents: Agents,
        budgets: Budgets,
        settings: Settings,
        max_content_bytes: int,
        in_thread: InThread,
        context: Context,
    ) -> None:
        self.claim = claim
        self._answer = answer
        self._agents = agents
        self._settings = settings
        self._max_content_bytes = max_content_bytes
        self._in_thread = in_thread
        #: What the code of the session runs in.
        self.context = context
        self._cancel = CancelScope()
        self._stop: Stop | None = None
        self._interruption: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outcome: asyncio.Future[Terminal] = asyncio.get_running_loop().create_future()
        self._drive: asyncio.Task[None] | None = None
        self._steps: AsyncGenerator[Yielded, None] | None = None
        self._buffer: SessionBuffer = writer.open(claim, self._interrupt)
        self._door = Door(settings, max_content_bytes=max_content_bytes, in_thread=in_thread, fields=self._fields())
        self._spending = Spending(claim.used, agents.prices, claim.model or "")
        self._budget = budgets.open(claim, lambda: self._spending.used(self._door.said_bytes))
        #: The answer so far is known: what earlier attempts had said is read.
        self._taken_up = False
        # The newest event that stands for good: a withdrawal goes back to it.
        self._permanent_seq = claim.last_seq + 1

    @property
    def fenced(self) -> bool:
        """Its session was taken over, cancelled, ended or deleted."""
        return self._buffer.fenced and self._stop is not Stop.HAND_BACK

    @property
    def terminal(self) -> Terminal | None:
        """How the turn ended; None: it did not, or was stopped."""
        outcome = self._outcome
        known = outcome.done() and not outcome.cancelled() and outcome.exception() is None
        return outcome.result() if known else None

    def stop(self, why: Stop) -> None:
        """Stop the run; `work` then leaves the session as *why* says."""
        if self._stop is None and not self._buffer.fenced:
            self._stop = why
            self._interrupt()

    def give_up(self, *, hand_back: bool = True) -> None:
        """The worker ends: hand the session back as it is stored, or leave it to whoever takes over from the worker."""
        if hand_back and not self._buffer.fenced:
            self._stop = Stop.HAND_BACK
        self._buffer.fence()

    def _interrupt(self) -> None:
        if not self._interruption.done():
            self._interruption.set_result(None)
        self._cancel.request()
        if self._drive is not None:
            self._drive.cancel()

    async def work(self) -> Stop | None:
        """Answer the turn and commit its end. Returns why it stopped before that, if so.

        Whatever happens, the session has ended, is handed back, belongs to another attempt, or is left to the sweeper.
        """
        try:
            if self._stop is None:
                name = f"turn {self.claim.session_id}"
                self._drive = asyncio.create_task(self._answer_turn(), name=name, context=self.context)
                try:
                    # Not awaited itself: when this task is cancelled the drive must close its model call first.
                    news: set[asyncio.Future[Any]] = {self._drive, self._interruption, self._outcome}
                    await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
                    if not self._outcome.done() and await self._has_ended(self._drive):
                        # Raises what it was stopped by, unless it had come to an end all the same.
                        self._drive.result()
                    if self._outcome.done():
                        await self._buffer.finish(self._outcome.result())
                        if not await self._has_ended(self._drive):
                            self._drive.cancel()
                        return None
                except asyncio.CancelledError:
                    await self._after_cancel(self._drive)
        except Fenced:
            pass
        except RecordingFailed:
            await self._end(Error("internal_error", "the session could not be stored"))
            return None
        finally:
            self._buffer.close()
            self._budget.close()
        if self.fenced:
            observed.fenced(self.claim)
            return None
        if self._buffer.failure is not None:
            await self._end(Error("internal_error", "the session could not be stored"))
            return None
        if self._stop is Stop.HAND_BACK:
            # Also when this task is cancelled while it waits for a thread: others would be kept off.
            await asyncio.shield(self._in_thread(claims.hand_back, self.claim))
        else:
            await self._end(Error("cancelled", "stopped"))
        return self._stop

    async def _after_cancel(self, drive: asyncio.Task[None]) -> None:
        """Either the drive was stopped, or this task was: by whoever stops the job."""
        if not drive.done():
            self.stop(Stop.CANCEL)
        if await self._has_ended(drive) and not drive.cancelled():
            drive.exception()  # nothing is to be done about it

    async def _has_ended(self, drive: asyncio.Task[None]) -> bool:
        """Give a drive the time to close what it has open; False: it does not stop."""
        _, stubborn = await asyncio.wait([drive], timeout=CLOSE_S)
        if stubborn:
            # The buffer is closed after this: whatever it still says is not written.
            logger.warning("orchestrator does not stop", extra=self._fields())
        return not stubborn

    async def _end(self, error: Error) -> None:
        """End from outside the buffer, unless the session is no longer this attempt's."""
        if self._taken_up:
            # Also what was not stored any more: text is kept whatever stood beside it.
            error = replace(error, content=self._door.answer)
        while True:
            try:
                with suppress(NotFound):  # deleted meanwhile
                    await self._in_thread(sessions.end_attempt, self.claim.session_id, self.claim.attempt, error)
                return
            except DatabaseBusy:
                await asyncio.sleep(_READ_AGAIN_S)

    async def _answer_turn(self) -> None:
        """Drive the orchestrator until it is known how the session ends; then close it.

        What the orchestrator does as it is closed changes nothing any more.
        """
        try:
            self._outcome.set_result(await self._terminal())
        finally:
            await self._close_steps()

    async def _close_steps(self) -> None:
        if self._steps is None:
            return
        try:
            await self._steps.aclose()
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_stopped():
                raise
            logger.warning("orchestrator failed while closing", exc_info=error, extra=self._fields())

    async def _terminal(self) -> Terminal:
        """Drive the orchestrator to its end and say how the session ends."""
        started = asyncio.get_running_loop().time()
        limit = asyncio.timeout_at(started + self.claim.remaining_s)
        try:
            # Before the limit: a turn that comes back too late still ends with what it had said.
            await self._take_up()
            async with limit:
                terminal: Terminal = await self._run_turn()
        except (Fenced, RecordingFailed):
            raise
        except BaseException as error:
            # SystemExit and KeyboardInterrupt would end the loop, and with it the runs of all others.
            if self._interruption.done() or is_stopped():
                # It may have made something else of its cancellation.
                raise asyncio.CancelledError from error
            late = self._settings.turn_timeout_s if limit.expired() else None
            terminal = failure_of(error, late_s=late, max_content_bytes=self._max_content_bytes)
            if terminal.error_code == ORCHESTRATOR_ERROR:
                logger.error("orchestrator failed", exc_info=error, extra=self._fields())
        elapsed_ms = int((asyncio.get_running_loop().time() - started) * 1000)
        terminal = replace(
            terminal, duration_ms=elapsed_ms, usage=self._spending.of_end(terminal.usage, self._door.said_bytes)
        )
        if isinstance(terminal, Error):
            return replace(terminal, content=self._door.answer)
        return replace(terminal, model=terminal.model or self.claim.model or "")

    async def _take_up(self) -> None:
        """Take over the text that earlier attempts had committed with a checkpoint."""
        claim = self.claim
        if claim.checkpoint is not None:
            self._door.add(await self._read(lambda: log.answer_text(claim.session_id, claim.checkpoint_seq)))
            self._door.keep()
        self._taken_up = True

    async def _run_turn(self) -> Done:
        claim = self.claim
        supersedes_from = claim.checkpoint_seq + 1 if claim.attempt > 1 else None
        await self._buffer.put(Thinking("", supersedes_from, claim.cause), urgent=True)
        # Here a turn ends whose time is used up already: what follows need not wait for anything.
        await asyncio.sleep(0)
        turn = await prepare(
            claim,
            agents=self._agents,
            settings=self._settings,
            cancel=self._cancel,
            read=self._read,
            in_thread=self._in_thread,
        )
        self._steps = self._answer(turn)
        async for step in self._steps:
            if isinstance(step, Withdrawal):
                self._door.withdraw()
                await self._buffer.put(Thinking("", supersedes_from=self._permanent_seq + 1))
                continue
            plain = await self._door.take(step)
            if isinstance(plain, Done):
                return plain
            if isinstance(plain, State):
                await self._buffer.checkpoint(plain.text)
                self._door.keep()
                self._permanent_seq = self._buffer.last_seq
            elif isinstance(plain, Asked | Usage):
                if isinstance(plain, Asked):
                    await self._budget.check(turn.agent, self._spending.estimate(plain))
                self._spending.take(plain, self._door.said_bytes)
                self._buffer.use(*self._spending.stored)
            elif plain is not None:
                if self._buffer.last_seq > (limit := self._settings.max_turn_events):
                    raise TurnFailed("too_many_events", f"The turn has over {limit} events.")
                await self._buffer.put(plain)
        return Done(self._door.answer)

    async def _read(self, work: Callable[[], T]) -> T:
        """Read from the database, waiting while it is away."""
        while True:
            try:
                return await self._in_thread(db.reading, work)  # type: ignore[no-any-return]
            except DatabaseUnavailable:
                await asyncio.sleep(_READ_AGAIN_S)

    def _fields(self) -> dict[str, object]:
        return observed.of_claim(self.claim)
