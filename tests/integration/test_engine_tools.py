"""Tools do what they like: each call has a result that the model is told, and the worker lives on."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.model_server import ModelServer
from tests.sample_tools import NO_RESULTS
from tests.turns import Recorded, answer, make_agent, make_settings

SAY_RESULT = {"steps": [{"text": "It is "}, {"echo": "tool"}]}


def turn_with(server: ModelServer, tool: str, arguments: str = "{}", checkpoint: Any = None) -> Recorded:
    """A turn that calls *tool* and says its result; its call has the id `a`."""
    fragment = {"index": 0, "id": "a", "name": tool, "arguments": arguments}
    model = server.add({"answers": [{"steps": [{"tool": fragment}]}, SAY_RESULT]})
    agent = make_agent(tools=(f"tests.sample_tools:{tool}",))
    return answer(make_settings(server), f"openai-chat:{model}", agent=agent, checkpoint=checkpoint)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("tool", "says"),
    [
        ("exits", "SystemExit: 3"),
        ("exits_async", "SystemExit: 3"),
        ("runs_out", "StopIteration: "),
        ("cancelled", "CancelledError: 3"),
        ("unspeakable", "UnspeakableError"),
        ("silent", "Silent"),
        ("interrupted", "KeyboardInterrupt: 3"),
        ("interrupted_on_a_thread", "KeyboardInterrupt: 3"),
        ("closed", "GeneratorExit: 3"),
        ("panics", "Panic: 3"),
    ],
)
def test_a_tool_that_raises_what_nobody_expects_fails_alone(model_server: ModelServer, tool: str, says: str) -> None:
    turn = turn_with(model_server, tool, '{"code": 3}')

    [_, after] = turn.calls("a")
    assert (after.tool_success, after.tool_result) == (False, says)
    assert turn.done.content == f"It is {json.dumps({'error': says}, separators=(',', ':'))}"


@pytest.mark.parametrize(
    ("tool", "says"),
    [
        ("three", "[0,1,2]"),
        ("half_a_character", "half ?"),
        ("not_a_number", "[1.5,null]"),
        ("moment", '{"at":"2026-01-02T00:00:00Z","raw":"_w=="}'),
    ],
)
def test_a_resumed_turn_tells_the_model_the_same_result(model_server: ModelServer, tool: str, says: str) -> None:
    first = turn_with(model_server, tool)

    resumed = turn_with(model_server, tool, checkpoint=json.loads(json.dumps(first.checkpoints[-1])))

    assert first.calls("a")[1].tool_result == says
    assert first.done.content == resumed.done.content == f"It is {says}"
    assert resumed.calls("a") == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("tool", ["returns_no_result", "returns_no_result_async"])
def test_a_result_without_an_end_or_a_measure_fails_alone_and_the_loop_goes_on(
    model_server: ModelServer, tool: str
) -> None:
    calls = [
        {"index": n, "id": f"call {n}", "name": tool, "arguments": json.dumps({"name": name})}
        for n, name in enumerate(NO_RESULTS)
    ]
    answers = [{"steps": [{"tool": call} for call in calls]}, {"steps": [{"text": "went on"}]}]
    model = model_server.add({"answers": answers})
    agent = make_agent(tools=(f"tests.sample_tools:{tool}",))

    turn = answer(make_settings(model_server, max_content_bytes=1_000_000), f"openai-chat:{model}", agent=agent)

    assert turn.done.content == "went on"
    for n, name in enumerate(NO_RESULTS):
        [_, after] = turn.calls(f"call {n}")
        assert (name, after.tool_success) == (name, False)
        assert str(after.tool_result).startswith("The result is ")


def test_a_large_result_is_kept_as_the_text_that_the_model_is_told(model_server: ModelServer) -> None:
    turn = turn_with(model_server, "structured", '{"size": 10000}')

    [_, after] = turn.calls("a")
    text = json.dumps({"numbers": list(range(10_000))}, separators=(",", ":"))
    assert (after.tool_success, after.tool_result) == (True, text)
    assert turn.done.content == f"It is {text}"


def test_arguments_that_are_nested_too_deep_are_told_to_the_model(model_server: ModelServer) -> None:
    turn = turn_with(model_server, "large", "[" * 100_000)

    [before, after] = turn.calls("a")
    assert before.tool_args == "[" * 100_000
    assert after.tool_success is False
    assert turn.done.content is not None


def test_a_process_ends_although_a_tool_does_not_return(model_server: ModelServer) -> None:
    fragment = {"index": 0, "id": "a", "name": "sleep", "arguments": '{"seconds": 600}'}
    model = model_server.add({"answers": [{"steps": [{"tool": fragment}]}]})
    program = f"""
import asyncio
from app.events import ToolCall
from tests.turns import make_agent, make_settings, make_turn, record, with_engine
settings = make_settings(openai_api_key="x", openai_base_url={model_server.url!r})

async def stop_in_the_tool(engine):
    turn = engine(make_turn(settings, "openai-chat:{model}", agent=make_agent(tools=("tests.sample_tools:sleep",))))
    task = asyncio.create_task(record(turn))
    while not sample_tools.sleeping.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])

from tests import sample_tools
with_engine(settings, stop_in_the_tool)
print("closed")
"""

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "closed\n", "")
