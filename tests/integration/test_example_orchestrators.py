"""The orchestrators in docs/orchestrators.md run as they are written there."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.events import Delta, Done, ToolCall
from tests.turns import Recorded, make_settings, make_turn, record
from worker.orchestrator import Checkpoint
from worker.process.orchestrators import load

DOCS = Path(__file__).resolve().parents[2] / "docs" / "orchestrators.md"
BLOCKS = dict(re.findall(r"```python\n# examples/(\w+)\.py\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL))


@pytest.fixture(autouse=True)
def _examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The code blocks as importable modules."""
    for name, code in BLOCKS.items():
        (tmp_path / f"{name}.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in BLOCKS:
        sys.modules.pop(name, None)


def run(name: str, **fields: object) -> Recorded:
    settings = make_settings(orchestrator=f"{name}:answer")

    async def answer() -> Recorded:
        orchestrator = load(settings)
        try:
            return await record(orchestrator(make_turn(settings, **fields)))  # type: ignore[arg-type]
        finally:
            await orchestrator.aclose()

    return asyncio.run(answer())


def test_there_is_an_async_and_a_plain_example() -> None:
    assert BLOCKS.keys() == {"recite", "count_words"}


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
