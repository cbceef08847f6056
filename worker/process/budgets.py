"""Budgets: what is left on the accounts whose sessions run in this process, looked at before each model request.

What was debited and what runs elsewhere is read from the database once a second; what runs here is known as it
happens, with an estimate of each request that is under way. So an account is overspent at most by what the requests
that are under way at once take beyond their estimates, and by those that other processes begin within that second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from app.accounts import amount_of
from app.agents import Agent
from app.errors import DatabaseUnavailable
from app.events import Usage
from app.sessions import spending
from app.sessions.claims import Claim
from app.sessions.spending import Funds
from worker.orchestrator import TurnFailed

#: How long what was read of an account is good for.
REFRESH_S = 1.0
_READ_AGAIN_S = 0.5
EXHAUSTED = "budget_exhausted"

InThread = Callable[..., Awaitable[Funds | None]]


class Budgets:
    """Of one process, by account.

    Args:
        in_thread: Runs a function that reads from the database.
        read: What is debited and what runs, of an account and its owner.
    """

    def __init__(
        self,
        in_thread: InThread,
        *,
        read: Callable[[int, str], Funds | None] = spending.funds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._in_thread = in_thread
        self._read = read
        self._clock = clock
        self._accounts: dict[int, _Account] = {}

    def open(self, claim: Claim, used: Callable[[], Usage]) -> Budget:
        """The budget of a run that has used *used* so far."""
        if claim.account_id is None:
            return Budget(self, None, claim.row_id, used)
        account = self._accounts.get(claim.account_id)
        if account is None:
            account = self._accounts[claim.account_id] = _Account(claim.account_id, claim.owner)
        account.runs[claim.row_id] = used
        account.known[claim.row_id] = claim.used
        return Budget(self, account, claim.row_id, used)

    def close(self, account: _Account, row_id: int) -> None:
        used = account.runs.pop(row_id, None)
        if used is not None:
            account.ended[row_id] = used()
        if not account.runs:
            # Read anew when the next one comes.
            self._accounts.pop(account.id, None)

    async def refresh(self, account: _Account, *, newer_than: float) -> None:
        """Read what is left, unless it was read after *newer_than*."""
        async with account.reading:
            if account.read_at > newer_than:
                return
            asked_at = self._clock()
            while True:
                try:
                    account.take(await self._in_thread(self._read, account.id, account.owner))
                    break
                except DatabaseUnavailable:
                    await asyncio.sleep(_READ_AGAIN_S)
            account.read_at = asked_at

    @property
    def now(self) -> float:
        return self._clock()


class _Account:
    def __init__(self, account_id: int, owner: str) -> None:
        self.id = account_id
        self.owner = owner
        self.reading = asyncio.Lock()
        self.read_at = float("-inf")
        self.unit = "tokens"
        self._left = 0
        #: What each run here has used so far, by the id of its row.
        self.runs: dict[int, Callable[[], Usage]] = {}
        #: Runs that have ended since the last look, with what they had used.
        self.ended: dict[int, Usage] = {}
        #: What of each run is in `_left`.
        self.known: dict[int, Usage] = {}

    def _used(self) -> dict[int, Usage]:
        return self.ended | {row_id: used() for row_id, used in self.runs.items()}

    def take(self, funds: Funds | None) -> None:
        """Take over what was read; None: there is no such account any more, and nothing bounds its runs."""
        used = self._used()
        # A run whose row no longer runs has been debited.
        self.known, self.ended = used, {}
        if funds is None:
            self._left = 2**62
            return
        self.unit = funds.unit
        self._left = funds.balance - sum(
            max(self.amount(stored), self.amount(used.get(row_id, stored))) for row_id, stored in funds.running.items()
        )

    def amount(self, usage: Usage) -> int:
        return amount_of(self.unit, usage)

    def left(self) -> int:
        """What is left after all that runs."""
        return self._left - sum(
            self.amount(used) - self.amount(self.known.get(row_id, Usage())) for row_id, used in self._used().items()
        )


class Budget:
    """Of one run; made by `Budgets.open`."""

    def __init__(self, budgets: Budgets, account: _Account | None, row_id: int, used: Callable[[], Usage]) -> None:
        self._budgets = budgets
        #: None: nobody is charged.
        self._account = account
        self._row_id = row_id
        self._used = used
        self._opened_at = budgets.now

    async def check(self, agent: Agent, request: Usage) -> None:
        """Return if a request that takes about as much as *request* may be made; it must be counted at once then.

        Raises:
            TurnFailed: the turn would take more than its agent may, or too little is left on the account.
        """
        check_turn(agent, self._used(), request)
        account = self._account
        if account is None:
            return
        await self._budgets.refresh(account, newer_than=self._budgets.now - REFRESH_S)
        if account.left() >= max(1, account.amount(request)):
            return
        # The message was accepted because something was left: it may have been credited just before.
        await self._budgets.refresh(account, newer_than=self._opened_at)
        if account.left() < max(1, account.amount(request)):
            raise TurnFailed(EXHAUSTED, "The balance of the account is used up.")

    def close(self) -> None:
        """The run has ended, or is no longer here."""
        if self._account is not None:
            self._budgets.close(self._account, self._row_id)


def check_turn(agent: Agent, used: Usage, request: Usage) -> None:
    """Return if a turn that has used *used* may make a request that takes about as much as *request*.

    Raises:
        TurnFailed: it would take more than the agent allows.
    """
    total = used + request
    if agent.max_turn_tokens is not None and total.total_tokens > agent.max_turn_tokens:
        raise TurnFailed(EXHAUSTED, f"The turn would take more than {agent.max_turn_tokens} tokens.")
    if agent.max_turn_cost is not None and total.cost > agent.max_turn_cost:
        raise TurnFailed(EXHAUSTED, "The turn would cost more than its agent may spend.")
