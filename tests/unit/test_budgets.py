"""What is left on an account is looked at before each model request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.errors import DatabaseUnavailable
from app.events import Usage
from app.sessions.claims import Claim
from app.sessions.spending import Funds
from tests.turns import make_agent
from worker.orchestrator import TurnFailed
from worker.process import budgets
from worker.process.budgets import Budgets, check_turn

AGENT = make_agent()


class Ledger:
    """What the database says, and how often it was asked."""

    def __init__(self, balance: int, running: dict[int, Usage] | None = None, unit: str = "tokens") -> None:
        self.funds: Funds | None = Funds(unit, balance, running or {})
        self.reads = 0
        self.now = 0.0
        #: Runs while the database is read.
        self.meanwhile: Callable[[], object] = lambda: None
        self.failures = 0

    async def in_thread(self, read: Callable[..., Any], *arguments: Any) -> Any:
        self.reads += 1
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise DatabaseUnavailable
        funds = self.funds
        self.meanwhile()
        return funds

    def budgets(self) -> Budgets:
        return Budgets(self.in_thread, read=lambda *_: None, clock=lambda: self.now)


class Run:
    def __init__(self, row_id: int, *, used: int = 0, account_id: int | None = 1) -> None:
        self.used = Usage(used)
        self.claim = Claim(row_id, f"s-{row_id}", None, "anna", 1, "m", "Hello?", 1, 0, None, 0, 900.0)
        self.claim = Claim(
            **{name: getattr(self.claim, name) for name in Claim.__dataclass_fields__}
            | {"used": self.used, "account_id": account_id}
        )

    def total(self) -> Usage:
        return self.used


def open_budget(made: Budgets, run: Run) -> budgets.Budget:
    return made.open(run.claim, run.total)


def play(work: Awaitable[Any]) -> Any:
    async def run() -> Any:
        return await work

    return asyncio.run(run())


def test_a_run_that_nobody_is_charged_for_asks_nothing() -> None:
    async def run() -> None:
        ledger = Ledger(0)
        budget = ledger.budgets().open(Run(1, account_id=None).claim, Usage)

        await budget.check(AGENT, Usage(10**9))
        budget.close()

        assert ledger.reads == 0

    play(run())


def test_what_is_left_is_read_once_a_second_and_known_in_between() -> None:
    async def run() -> None:
        ledger = Ledger(100, {1: Usage(), 2: Usage(), 9: Usage(30)})
        made = ledger.budgets()
        one, two = Run(1), Run(2)
        first, second = open_budget(made, one), open_budget(made, two)

        await first.check(AGENT, Usage(10))
        one.used = Usage(40)
        await second.check(AGENT, Usage(30))
        assert ledger.reads == 1
        two.used = Usage(30)
        ledger.now = 0.5
        with pytest.raises(TurnFailed) as failed:
            await first.check(AGENT, Usage(1))

        assert failed.value.code == "budget_exhausted"

    play(run())


def test_nobody_is_refused_by_what_was_read_before_their_message_was_claimed() -> None:
    async def run() -> None:
        ledger = Ledger(10, {1: Usage()})
        one = Run(1)
        made = ledger.budgets()
        budget = open_budget(made, one)
        ledger.now = 0.05
        await budget.check(AGENT, Usage(10))
        one.used = Usage(10)
        # Somebody credits the account meanwhile.
        ledger.funds = Funds("tokens", 30, {1: Usage(10), 2: Usage()})
        ledger.now = 0.1

        with pytest.raises(TurnFailed):
            await budget.check(AGENT, Usage(20))
        await open_budget(made, Run(2)).check(AGENT, Usage(20))

        assert ledger.reads == 2

    play(run())


def test_a_run_that_ends_while_the_database_is_read_is_counted_once() -> None:
    async def run() -> None:
        ledger = Ledger(100, {1: Usage(), 2: Usage()})
        made = ledger.budgets()
        one, two = Run(1), Run(2)
        first, second = open_budget(made, one), open_budget(made, two)
        await first.check(AGENT, Usage(1))
        one.used = Usage(60)
        ledger.funds = Funds("tokens", 40, {2: Usage()})
        ledger.meanwhile = first.close
        ledger.now = 5.0

        await second.check(AGENT, Usage(40))

    play(run())


def test_requests_that_begin_at_once_pass_one_after_the_other() -> None:
    async def run() -> list[str]:
        ledger = Ledger(100, {n: Usage() for n in range(20)})
        made = ledger.budgets()
        runs = [Run(n) for n in range(20)]
        opened = [open_budget(made, run) for run in runs]

        async def ask(run: Run, budget: budgets.Budget) -> str:
            try:
                await budget.check(AGENT, Usage(10))
            except TurnFailed as failed:
                return failed.code
            run.used = Usage(10)
            return "asked"

        return list(await asyncio.gather(*[ask(*pair) for pair in zip(runs, opened, strict=True)]))

    outcomes = play(run())

    assert outcomes.count("asked") == 10
    assert outcomes.count("budget_exhausted") == 10


def test_money_is_counted_where_the_account_is_kept_in_money() -> None:
    async def run() -> None:
        budget = open_budget(Ledger(100, unit="money").budgets(), Run(1))

        await budget.check(AGENT, Usage(1_000_000, cost=100))
        with pytest.raises(TurnFailed):
            await budget.check(AGENT, Usage(1, cost=101))

    play(run())


def test_nothing_left_is_too_little_for_a_request_of_which_nothing_is_known() -> None:
    async def run() -> None:
        with pytest.raises(TurnFailed):
            await open_budget(Ledger(0).budgets(), Run(1)).check(AGENT, Usage())

    play(run())


def test_a_database_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "_READ_AGAIN_S", 0)

    async def run() -> None:
        ledger = Ledger(100)
        ledger.failures = 3

        await open_budget(ledger.budgets(), Run(1)).check(AGENT, Usage(1))

        assert ledger.reads == 4

    play(run())


def test_an_account_that_is_gone_bounds_nothing() -> None:
    async def run() -> None:
        ledger = Ledger(0)
        ledger.funds = None

        await open_budget(ledger.budgets(), Run(1)).check(AGENT, Usage(10**9))

    play(run())


@pytest.mark.parametrize(
    ("fields", "used", "request_", "fits"),
    [
        ({}, Usage(2**31 - 1), Usage(10), True),
        ({"max_turn_tokens": 100}, Usage(60, 30), Usage(10), True),
        ({"max_turn_tokens": 100}, Usage(60, 30), Usage(11), False),
        ({"max_turn_cost": 500}, Usage(1, cost=400), Usage(1, cost=100), True),
        ({"max_turn_cost": 500}, Usage(1, cost=400), Usage(1, cost=101), False),
        ({"max_turn_cost": 0}, Usage(), Usage(1, cost=1), False),
    ],
)
def test_a_turn_keeps_to_what_its_agent_may_spend(
    fields: dict[str, int], used: Usage, request_: Usage, fits: bool
) -> None:
    agent = make_agent(**fields)

    if fits:
        check_turn(agent, used, request_)
        return
    with pytest.raises(TurnFailed) as failed:
        check_turn(agent, used, request_)
    assert failed.value.code == "budget_exhausted"
