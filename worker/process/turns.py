"""Turns: rings that come at the same time are judged by one look at what waits; what has no turn is rung for later."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sized
from functools import partial
from typing import Any

from app.errors import DatabaseUnavailable
from app.sessions import turn_order
from app.sessions.claims import Claim
from app.sessions.turn_order import Judgement
from app.settings import Settings

from .supervision import Supervision

logger = logging.getLogger(__name__)

_Asked = tuple[str, "asyncio.Future[bool]"]


class Turns:
    """Of one worker.

    Args:
        running: What has places now.
        ring: Rings for a session; `first=True`: before all others.
    """

    def __init__(
        self,
        settings: Settings,
        in_thread: Callable[..., Any],
        running: Sized,
        ring: Callable[..., object],
        *,
        judge: Callable[..., Judgement] = turn_order.judge,
        supervision: Supervision | None = None,
    ) -> None:
        self._in_thread = in_thread
        self._places = settings.worker_concurrency
        self._running = running
        self._judge = partial(judge, running_per_owner=settings.max_running_per_owner)
        self._ring = ring
        self._supervision = supervision or Supervision()
        self._asked: list[_Asked] = []
        self._task: asyncio.Task[None] | None = None
        #: Sessions that may begin and are not claimed yet.
        self._beginning: set[str] = set()
        #: What was not its turn, by owner: rung for when something has ended.
        self._later: dict[str, deque[str]] = {}

    async def answer(
        self,
        session_id: str,
        claim: Callable[[str], Awaitable[Claim | None]],
        work: Callable[[Claim], Awaitable[None]],
    ) -> None:
        """Claim the session that was rung for and work on it, if it is its turn; then ring for what has no ring."""
        if not await self.may_begin(session_id):
            return
        try:
            claimed = await claim(session_id)
        finally:
            self.claimed(session_id)
        if claimed is None:
            return
        try:
            await work(claimed)
        finally:
            waiting = self.ended(claimed.owner)
            if waiting is not None:
                await asyncio.shield(self._in_thread(self._ring, waiting))

    async def may_begin(self, session_id: str) -> bool:
        """Whether it is the turn of the session that was rung for; then call `claimed` once it is claimed."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked.append((session_id, answer))
        if self._task is None or self._task.done():
            self._task = self._supervision.errand("turns", self._judge_all())
        try:
            return await answer
        except asyncio.CancelledError:
            if not answer.cancelled() and answer.result():
                # Stopped just after it was told: it begins nothing.
                self.claimed(session_id)
            raise

    def claimed(self, session_id: str) -> None:
        """The session that might begin is claimed, or was not to be had."""
        self._beginning.discard(session_id)

    def ended(self, owner: str) -> str | None:
        """A session of *owner* has ended here; the one to ring for, if any waits without a ring."""
        waiting = self._later.get(owner) or next(iter(self._later.values()), None)
        if waiting is None:
            return None
        session_id = waiting.popleft()
        for name in [name for name, each in self._later.items() if not each]:
            del self._later[name]
        return session_id

    async def _judge_all(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            wanted = [session_id for session_id, answer in asked if not answer.done()]
            if not wanted:
                continue
            places = self._places - len(self._running) - len(self._beginning)
            try:
                judgement = await self._in_thread(self._judge, wanted, places, list(self._beginning))
            except DatabaseUnavailable:
                # Nothing can be claimed either.
                judgement = Judgement(dict.fromkeys(wanted), {}, [])
            self._settle(asked, judgement)
            for session_id in judgement.first:
                await self._in_thread(partial(self._ring, session_id, first=True))

    def _settle(self, asked: list[_Asked], judgement: Judgement) -> None:
        for session_id, answer in asked:
            begins = session_id in judgement.begin
            owner = judgement.begin.get(session_id) or judgement.later.get(session_id)
            if answer.done():
                continue  # stopped meanwhile
            if begins and owner is not None:
                self._beginning.add(session_id)
            elif not begins and owner is not None and session_id not in self._later.get(owner, ()):
                self._later.setdefault(owner, deque()).append(session_id)
            answer.set_result(begins)
