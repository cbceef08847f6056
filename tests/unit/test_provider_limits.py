"""The queue before a provider: first come, first served, and nobody's place is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from worker.engine.failures import ModelFailure
from worker.engine.provider_limits import Place, ProviderLimit, ProviderLimits
from worker.engine.provider_pace import BURST

REFUSED = ModelFailure("model_rate_limited", "", 0.05, True, "")


async def pass_through(place: Place, model: str, order: list[str], name: str) -> None:
    async with place.at(model):
        order.append(name)


async def fill(limit: ProviderLimit, count: int = int(BURST)) -> None:
    """Use up what may start at once."""
    for _ in range(count):
        await pass_through(limit.place(), "m", [], "")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 10))


def test_who_waits_is_let_in_in_the_order_of_places() -> None:
    async def work() -> list[str]:
        now, order = [0.0], list[str]()
        limit = ProviderLimit(clock=lambda: now[0])
        first, second, third = limit.place(), limit.place(), limit.place()
        await fill(limit)
        async with asyncio.TaskGroup() as tasks:
            for place, name in ((third, "third"), (first, "first"), (second, "second")):
                tasks.create_task(pass_through(place, "m", order, name))
            await asyncio.sleep(0)
            now[0] = 1.0
        return order

    assert run(work()) == ["first", "second", "third"]


def test_a_pause_of_one_model_lets_others_pass() -> None:
    async def work() -> list[str]:
        limit, order = ProviderLimit(), list[str]()
        place = limit.place()
        async with place.at("slow"):
            place.failed(REFUSED)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pass_through(place, "slow", order, "slow"))
            tasks.create_task(pass_through(limit.place(), "other", order, "other"))
        return order

    assert run(work()) == ["other", "slow"]


def test_who_gives_up_waiting_holds_nobody_up() -> None:
    async def work() -> list[str]:
        limit, order = ProviderLimit(), list[str]()
        place = limit.place()
        async with place.at("m"):
            place.failed(REFUSED)
        leaving = asyncio.create_task(pass_through(limit.place(), "m", order, "leaving"))
        staying = asyncio.create_task(pass_through(limit.place(), "m", order, "staying"))
        await asyncio.sleep(0)
        leaving.cancel()
        await staying
        return order if limit.pace.in_flight == 0 else []

    assert run(work()) == ["staying"]


def test_who_was_let_in_as_it_gave_up_gives_its_place_back() -> None:
    async def work() -> int:
        now = [0.0]
        limit = ProviderLimit(clock=lambda: now[0])
        async with limit.place().at("m"):
            await fill(limit, int(BURST) - 1)
            task = asyncio.create_task(pass_through(limit.place(), "m", [], ""))
            await asyncio.sleep(0)
            now[0] = 1.0
        assert limit.pace.in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return limit.pace.in_flight

    assert run(work()) == 0


def test_a_refusal_while_others_are_taken_is_told_apart() -> None:
    async def work() -> tuple[bool, bool]:
        limit = ProviderLimit()
        alone, other, refused = limit.place(), limit.place(), limit.place()
        async with alone.at("m"):
            alone.failed(REFUSED)
        async with refused.at("m"):
            async with other.at("m"):
                other.accepted()
            refused.failed(REFUSED)
        return alone.others_passed, refused.others_passed

    assert run(work()) == (False, True)


def test_a_provider_has_one_queue() -> None:
    limits = ProviderLimits()

    assert limits.of("http://a/v1") is limits.of("http://a/v1")
    assert limits.of("http://a/v1") is not limits.of("http://b/v1")
