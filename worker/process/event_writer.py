"""The event writer: one per worker process, group commit for all of its sessions.

Sessions hand it events and go on. Every flush writes what all of them have gathered in one transaction
(`app.sessions.commit`). While the database is away the same flush is tried again until it is known to be committed;
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

from app.broker.heads import Head, Heads
from app.db.times import utc_now
from app.errors import DatabaseUnavailable
from app.observability import metrics
from app.sessions import commit
from app.sessions import queries as session_queries
from app.sessions.claims import Claim
from app.sessions.commit import Batch, Committed

from .session_buffer import SessionBuffer, size_of
from .supervision import Supervision

logger = logging.getLogger(__name__)

#: One transaction takes no more than this (but at least one session).
FLUSH_CHARACTERS = 8 * 1024 * 1024
#: How often the heads of the live sessions are looked up: twice within the time to live of a head.
WATCH_S = 0.4
#: Names of its tasks.
FLUSH, WATCH = "flush", "watch"
#: A session whose row somebody else has locked is tried again after so long.
HELD_UP_S = 0.1
_RETRY_S = (0.1, 0.2, 0.5, 1.0)


class EventWriter:
    """Gathers, numbers and commits the events of all sessions of this process.

    Args:
        flush_s: How long events gather before they are written.
        record: Commits batches; runs on the writer's own thread.
        look: Reads the heads of sessions; runs on the same thread, so that what it reads is never older than
            what was committed before.
        supervision: Of its tasks; None: of its own.
    """

    def __init__(
        self,
        heads: Heads,
        *,
        flush_s: float,
        record: Callable[[Sequence[Batch]], list[Committed]] = commit.commit,
        look: Callable[[Sequence[str]], dict[str, Head]] = session_queries.heads,
        supervision: Supervision | None = None,
    ) -> None:
        self._supervision = supervision or Supervision()
        self._heads = heads
        self._flush_s = flush_s
        self._record = record
        self._look = look
        self._buffers: dict[int, SessionBuffer] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="event-writer")
        # Of its own: a Redis that does not answer must hold up neither commits nor the look at the database.
        self._publishing = ThreadPoolExecutor(1, thread_name_prefix="heads")
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()

    def start(self) -> None:
        self._supervision.start(FLUSH, self._flush_for_ever())
        self._supervision.start(WATCH, self._watch_for_ever())

    async def close(self) -> None:
        """Stop writing. Whatever is not committed is left to the next attempt."""
        await self._supervision.close()
        for thread in (self._thread, self._publishing):
            thread.shutdown(wait=self._supervision.broken is None)

    def open(self, claim: Claim, on_stopped: Callable[[], object]) -> SessionBuffer:
        """A buffer for *claim*; *on_stopped* is called when nothing more can be written of it."""
        buffer = SessionBuffer(self, claim, on_stopped)
        # A dead attempt of the same session may still be here: it writes nothing from now on.
        earlier = self._buffers.get(claim.row_id)
        self._buffers[claim.row_id] = buffer
        if earlier is not None:
            earlier.fence()
        return buffer

    def forget(self, buffer: SessionBuffer) -> None:
        if self._buffers.get(buffer.claim.row_id) is buffer:
            del self._buffers[buffer.claim.row_id]

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
                with self._supervision.at_work(FLUSH):
                    await self._flush()
                failures = 0
            except DatabaseUnavailable:
                metrics.FLUSH_FAILURES.inc()
                failures += 1
                self._news.set()
                if failures == 1:
                    logger.warning("database can't be reached, events wait")

    async def _flush(self) -> None:
        metrics.UNWRITTEN_EVENTS.set(sum(buffer.waiting for buffer in self._buffers.values()))
        taken: list[tuple[SessionBuffer, Batch]] = []
        size = 0
        # Those that wait for a lock come last: a large one must not keep the others out of each flush.
        for buffer in sorted(self._buffers.values(), key=lambda buffer: buffer.held_up):
            try:
                batch = buffer.take()
            except Exception as error:
                # What an orchestrator yields may be of any type; it must not end the writer of all sessions.
                logger.exception("events refused", extra={"session_id": buffer.claim.session_id})
                buffer.fail(error)
                continue
            if batch is None:
                continue
            taken.append((buffer, batch))
            size += sum(size_of(event) for event in batch.events)
            if size > FLUSH_CHARACTERS:
                # The others at once after this one.
                self.wake(urgent=True)
                break
        if taken:
            await self._write(taken)

    async def _write(self, taken: list[tuple[SessionBuffer, Batch]]) -> None:
        try:
            outcomes = await self._run(self._record_and_publish, [batch for _, batch in taken])
        except DatabaseUnavailable:
            for buffer, _ in taken:
                buffer.in_doubt()
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
        for (buffer, _), outcome in zip(taken, outcomes, strict=True):
            buffer.settle(outcome)
        if any(outcome.held_up for outcome in outcomes):
            asyncio.get_running_loop().call_later(HELD_UP_S, self.wake)

    def _record_and_publish(self, batches: Sequence[Batch]) -> list[Committed]:
        started = time.monotonic()
        outcomes = self._record(batches)
        metrics.FLUSH_SECONDS.observe(time.monotonic() - started)
        metrics.FLUSH_EVENTS.observe(sum(len(batch.events) for batch in batches))
        heads = [
            Head(batch.claim.session_id, batch.claim.owner, outcome.last_seq, outcome.status, utc_now().timestamp())
            for batch, outcome in zip(batches, outcomes, strict=True)
            if outcome.current
        ]
        self._publishing.submit(self._heads.publish, heads, known_at=time.monotonic())
        return outcomes

    async def _watch_for_ever(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                with self._supervision.at_work(WATCH):
                    await self._watch()
            except DatabaseUnavailable:
                continue
            except Exception:
                logger.exception("heads could not be read")

    # Not in the loop: its variables would keep the last session, and all that it said, until there is another one.
    async def _watch(self) -> None:
        # Only claims made before the look: what it reads is at least as new as they are.
        watched = {buffer.claim.session_id: buffer for buffer in self._buffers.values()}
        heads = await self._run(self._look_and_publish, list(watched))
        for session_id, buffer in watched.items():
            if buffer.busy or buffer.finished or buffer.fenced:
                continue  # the next flush decides, or has decided
            head = heads.get(session_id)
            if head is None or head.attempt != buffer.claim.attempt or head.status != "running":
                buffer.fence()

    def _look_and_publish(self, session_ids: list[str]) -> dict[str, Head]:
        looked_at = time.monotonic()
        heads = self._look(session_ids)
        self._publishing.submit(self._heads.publish, heads.values(), news=False, known_at=looked_at)
        return heads

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


async def _first(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
