"""The channel between the engine's task and the reader of its events."""

from __future__ import annotations

import asyncio

from app.events import Delta
from worker.engine.engine import MAX_WAITING, _Channel
from worker.orchestrator import Checkpoint


def test_a_slow_reader_slows_the_model_down_instead_of_filling_memory() -> None:
    async def run() -> tuple[int, int]:
        channel, said = _Channel(), 0

        async def speak() -> None:
            nonlocal said
            for n in range(100):
                await channel.say(Delta(str(n)))
                said += 1

        speaker = asyncio.create_task(speak())
        await asyncio.sleep(0)
        before = said
        for _ in range(10):
            await channel.take()
            await asyncio.sleep(0)
        speaker.cancel()
        return before, said

    assert asyncio.run(run()) == (MAX_WAITING, MAX_WAITING + 10)


def test_a_checkpoint_is_said_only_when_its_reader_has_come_back_for_more() -> None:
    async def run() -> list[bool]:
        channel, checkpoint = _Channel(), Checkpoint({})
        speaker = asyncio.create_task(channel.say(checkpoint))
        item = await channel.take()
        await asyncio.sleep(0)
        seen = [item is checkpoint, speaker.done()]
        channel.taken(checkpoint)
        await speaker
        return seen

    assert asyncio.run(run()) == [True, False]


def test_what_was_said_before_the_end_is_still_given() -> None:
    async def run() -> list[object]:
        channel = _Channel()
        await channel.say(Delta("a"))
        channel.end(None)
        return [await channel.take(), await channel.take()]

    assert asyncio.run(run()) == [Delta("a"), None]
