"""The orchestrators of `examples/`, which docs/orchestrators.md quotes, run as they are written there."""

from __future__ import annotations

import asyncio

from app.events import Delta, Done, ToolCall
from tests.turns import Recorded, make_settings, make_turn, record
from worker.orchestrator import Checkpoint
from worker.process.orchestrators import load


def run(name: str, **fields: object) -> Recorded:
    settings = make_settings(orchestrator=f"examples.{name}:answer")

    async def answer() -> Recorded:
        orchestrator = load(settings)
        try:
            return await record(orchestrator(make_turn(settings, **fields)))  # type: ignore[arg-type]
        finally:
            await orchestrator.aclose()

    return asyncio.run(answer())


def test_the_async_example_answers_with_a_checkpoint_after_each_line() -> None:
    turn = run("recite")

    assert turn.text.split("\n")[0] == "Roses are red, "
    assert turn.text.count("\n") == 4
    assert [checkpoint["next_line"] for checkpoint in turn.checkpoints] == [1, 2, 3, 4]
    assert turn.done.model == "poem"


def test_the_async_example_goes_on_after_a_crash() -> None:
    turn = run("recite", attempt=2, checkpoint={"next_line": 3})

    assert turn.text == "from a worker to you. \n"


def test_the_plain_example_answers() -> None:
    turn = run("count_words", message="one two two")

    assert turn.text == "two: 2\none: 1\n"
    assert [call.tool_success for call in turn.of(ToolCall)] == [None, True]
    assert not turn.of(Done)
    assert not turn.of(Checkpoint)
    assert len(turn.of(Delta)) == 2


def test_the_plain_example_fails_with_its_own_code() -> None:
    assert run("count_words", message=" ").failed == "nothing_to_count"
