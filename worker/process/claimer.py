"""Claims of one worker: sessions that come at the same time are taken in one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from app.sessions import claims
from app.sessions.claims import Claim
from app.settings import Settings

from .supervision import Supervision

logger = logging.getLogger(__name__)

#: One transaction takes no more than this: it holds the locks of their conversations.
AT_ONCE = 64

_Asked = tuple[str, "asyncio.Future[Claim | None]"]


class Claimer:
    """Takes sessions for the worker called *name*; what is asked for meanwhile goes into the next transaction."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        in_thread: Callable[..., Any],
        *,
        take: Callable[..., tuple[list[Claim], list[str]]] = claims.take,
        hand_back: Callable[[Claim], bool] = claims.hand_back,
        supervision: Supervision | None = None,
    ) -> None:
        self._supervision = supervision or Supervision()
        self._name = name
        self._settings = settings
        self._in_thread = in_thread
        self._take_many = take
        self._hand_back = hand_back
        self._asked: list[_Asked] = []
        # Claims whose run was stopped before it got them.
        self._unwanted: list[Claim] = []
        self._task: asyncio.Task[None] | None = None
        # Claims of one session each: only its own run waits for them.
        self._alone: set[asyncio.Task[None]] = set()

    async def claim(self, session_id: str) -> Claim | None:
        """A claim on this session; None: there is nothing to take (now).

        Raises:
            DatabaseUnavailable: no connection; at worst the attempt is raised and soon handed back.
        """
        answer: asyncio.Future[Claim | None] = asyncio.get_running_loop().create_future()
        self._asked.append((session_id, answer))
        self._go_on()
        try:
            return await answer
        except asyncio.CancelledError:
            # Stopped just after it was given the claim.
            if not answer.cancelled() and answer.exception() is None and (claim := answer.result()) is not None:
                self._unwanted.append(claim)
                self._go_on()
            raise

    def _go_on(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._supervision.errand("claims", self._take_all())

    async def close(self) -> None:
        """Return once nothing is being taken any more."""
        # Each may leave something to the others.
        while tasks := {task for task in (self._task, *self._alone) if task is not None and not task.done()}:
            await asyncio.wait(tasks)

    async def _take_all(self) -> None:
        while self._asked or self._unwanted:
            waiting = [(session_id, answer) for session_id, answer in self._asked if not answer.done()]
            some, self._asked = waiting[:AT_ONCE], waiting[AT_ONCE:]
            if some:
                await self._take(some, wait=False)
            await self._return_unwanted()

    async def _take(self, asked: list[_Asked], *, wait: bool) -> None:
        try:
            taken, held_up = await self._in_thread(self._claim, asked, wait)
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            if len(asked) > 1:
                # One of them may be at fault, or locked by somebody: the others must not suffer from it.
                self._take_each_alone(asked)
                return
            [(_, answer)] = asked
            if not answer.done():
                answer.set_exception(error)
            return
        found = {claim.session_id: claim for claim in taken}
        for session_id, answer in asked:
            if session_id not in held_up and not answer.done():
                answer.set_result(found.pop(session_id, None))
        self._take_each_alone([each for each in asked if each[0] in held_up])
        self._unwanted += found.values()
        self._go_on()

    def _take_each_alone(self, asked: list[_Asked]) -> None:
        for session_id, answer in asked:
            if not answer.done():
                task = self._supervision.errand(f"claim {session_id}", self._take([(session_id, answer)], wait=True))
                self._alone.add(task)
                task.add_done_callback(self._alone.discard)

    async def _return_unwanted(self) -> None:
        # Without this they would wait for the end of this worker.
        while self._unwanted:
            claim = self._unwanted.pop()
            try:
                await self._in_thread(self._hand_back, claim)
            except Exception as error:
                logger.warning(
                    "session could not be handed back", exc_info=error, extra={"session_id": claim.session_id}
                )

    def _claim(self, asked: list[_Asked], wait: bool) -> tuple[list[Claim], list[str]]:
        # Runs that were stopped meanwhile need no claim. The second request for one session finds it taken.
        wanted = {session_id: None for session_id, answer in asked if not answer.done()}
        return self._take_many(
            list(wanted),
            self._name,
            max_attempts=self._settings.max_attempts,
            turn_timeout_s=self._settings.turn_timeout_s,
            wait=wait,
        )
