"""A turn goes on from its last checkpoint: what is recorded is not done again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from app.events import Delta, Done, Thinking, ToolCall, Usage
from tests import sample_tools
from tests.model_server import ModelServer
from tests.turns import Recorded, answer, make_agent, make_settings, make_turn, record, with_engine
from worker.engine.tool_calls import OUTCOME_UNKNOWN
from worker.orchestrator import Asked, Checkpoint, Message


def call(*calls: tuple[str, str, str]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"text": "First. "}]
    for index, (call_id, name, arguments) in enumerate(calls):
        steps.append({"tool": {"index": index, "id": call_id, "name": name, "arguments": arguments}})
    return {"steps": steps, "usage": {"prompt_tokens": 10, "completion_tokens": 1, "cached_tokens": 3}}


SAY_RESULTS = {
    "steps": [{"text": "Results: "}, {"echo": "tool"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 2, "cached_tokens": 4},
}
TOOLS = make_agent(tools=("tests.sample_tools:counted", "tests.sample_tools:counted_repeatable"))


def through_json(state: Any) -> Any:
    """What a database gives back."""
    return json.loads(json.dumps(state))


def stop_at(
    server: ModelServer, model: str, until: Callable[[Any], bool], checkpoint: Any = None, **fields: Any
) -> Recorded:
    """Run a turn and let its worker die at the first event that *until* holds for."""
    settings = make_settings(server)
    turn = make_turn(settings, f"openai-chat:{model}", checkpoint=checkpoint, **({"agent": TOOLS} | fields))
    return with_engine(settings, lambda engine: record(engine(turn), until))


def nth_checkpoint(n: int) -> Callable[[Any], bool]:
    seen = 0

    def until(event: Any) -> bool:
        nonlocal seen
        seen += isinstance(event, Checkpoint)
        return seen == n

    return until


def test_checkpoints_are_json_and_follow_each_model_answer_and_each_tool_result(model_server: ModelServer) -> None:
    calls = call(("a", "counted", '{"name": "x"}'), ("b", "counted", '{"name": "y"}'))
    model = model_server.add({"answers": [calls, calls, SAY_RESULTS]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}", agent=TOOLS)

    shape = [type(event) for event in turn.events if not isinstance(event, (Delta, Thinking))]
    one_answer = [Asked, Usage, ToolCall, ToolCall, Checkpoint, ToolCall, Checkpoint, ToolCall, Checkpoint]
    assert shape == [*one_answer, *one_answer, Asked, Usage, Done]
    for state in turn.checkpoints:
        assert through_json(state) == state


def test_recorded_calls_are_not_executed_again(model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = sample_tools.count_runs(monkeypatch)
    model = model_server.add({"answers": [call(("a", "counted", '{"name": "x"}')), SAY_RESULTS]})
    died = stop_at(model_server, model, nth_checkpoint(2))

    turn = answer(
        make_settings(model_server),
        f"openai-chat:{model}",
        agent=TOOLS,
        attempt=2,
        checkpoint=through_json(died.checkpoints[-1]),
    )

    assert runs == ["x"]
    assert turn.of(ToolCall) == []
    assert turn.text == "\n\nResults: counted x"
    assert turn.done.content == "First. \n\nResults: counted x"
    assert turn.done.usage is not None
    assert (turn.done.usage.input_tokens, turn.done.usage.output_tokens) == (30, 3)
    assert len(model_server.requests(model)) == 2


def test_a_call_whose_outcome_is_unknown_is_not_run_again_unless_it_is_repeatable(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = sample_tools.count_runs(monkeypatch)
    calls = call(("a", "counted", '{"name": "once"}'), ("b", "counted_repeatable", '{"name": "again"}'))
    model = model_server.add({"answers": [calls, SAY_RESULTS]})
    died = stop_at(model_server, model, nth_checkpoint(1))
    assert [event.tool_success for event in died.of(ToolCall)] == [None, None]
    assert runs == []

    turn = answer(
        make_settings(model_server),
        f"openai-chat:{model}",
        agent=TOOLS,
        checkpoint=through_json(died.checkpoints[-1]),
    )

    assert runs == ["again"]
    [unknown] = turn.calls("a")
    [again] = turn.calls("b")
    assert (unknown.tool_success, unknown.tool_result) == (False, OUTCOME_UNKNOWN)
    assert (again.tool_success, again.tool_result) == (True, "counted again")
    assert turn.done.content is not None
    assert "outcome of this call is unknown" in turn.done.content
    assert "counted again" in turn.done.content


def test_a_tool_does_not_run_before_its_start_is_committed(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = sample_tools.count_runs(monkeypatch)
    model = model_server.add({"answers": [call(("a", "counted", '{"name": "x"}')), SAY_RESULTS]})
    settings = make_settings(model_server)

    async def slow_commit(engine: Any) -> list[str]:
        turn = engine(make_turn(settings, f"openai-chat:{model}", agent=TOOLS))
        async for event in turn:
            if isinstance(event, Checkpoint):
                await asyncio.sleep(0.2)
                break
        before = list(runs)
        await turn.aclose()
        return before

    assert with_engine(settings, slow_commit) == []


def test_a_partly_recorded_answer_runs_only_what_is_missing(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = sample_tools.count_runs(monkeypatch)
    calls = call(("a", "counted_repeatable", '{"name": "x"}'), ("b", "counted_repeatable", '{"name": "y"}'))
    model = model_server.add({"answers": [calls, SAY_RESULTS]})
    died = stop_at(model_server, model, nth_checkpoint(2))
    [recorded] = [event.tool_call_id for event in died.of(ToolCall) if event.tool_success]
    runs.clear()

    turn = answer(
        make_settings(model_server),
        f"openai-chat:{model}",
        agent=TOOLS,
        checkpoint=through_json(died.checkpoints[-1]),
    )

    assert runs == ["y" if recorded == "a" else "x"]
    assert turn.done.content == "First. \n\nResults: counted x|counted y"


def test_a_failed_call_is_still_failed_after_resuming(model_server: ModelServer) -> None:
    agent = make_agent(tools=("tests.sample_tools:broken",))
    model = model_server.add({"answers": [call(("a", "broken", '{"reason": "rust"}')), SAY_RESULTS]})
    died = stop_at(model_server, model, nth_checkpoint(2), agent=agent)

    turn = answer(
        make_settings(model_server), f"openai-chat:{model}", agent=agent, checkpoint=through_json(died.checkpoints[-1])
    )

    assert turn.of(ToolCall) == []
    assert "OSError: rust" in turn.text


def test_a_turn_that_died_in_its_second_answer_goes_on_after_the_first(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = sample_tools.count_runs(monkeypatch)
    second = {"steps": [{"text": "Half "}, {"delay": 0.3}, {"text": "and half"}]}
    model = model_server.add({"answers": [call(("a", "counted", '{"name": "x"}')), second]})
    died = stop_at(model_server, model, lambda event: isinstance(event, Delta) and "Half" in event.content)

    turn = answer(
        make_settings(model_server),
        f"openai-chat:{model}",
        agent=TOOLS,
        checkpoint=through_json(died.checkpoints[-1]),
    )

    assert runs == ["x"]
    assert turn.done.content == "First. \n\nHalf and half"


def test_ids_that_a_server_uses_again_in_its_next_answer_are_new_calls(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = sample_tools.count_runs(monkeypatch)
    first, second = (call(("same", "counted", json.dumps({"name": name}))) for name in ("x", "y"))
    model = model_server.add({"answers": [first, second, SAY_RESULTS]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}", agent=TOOLS)

    assert runs == ["x", "y"]
    assert [event.tool_call_id for event in turn.of(ToolCall)] == ["same", "same", "same-2", "same-2"]
    assert turn.done.content is not None
    assert turn.done.content.endswith("Results: counted y")


def test_history_is_not_part_of_a_checkpoint_and_is_there_after_resuming(model_server: ModelServer) -> None:
    history = (Message("user", "Earlier?"), Message("assistant", "Earlier."))
    model = model_server.add({"answers": [call(("a", "counted", '{"name": "x"}')), SAY_RESULTS]})
    died = stop_at(model_server, model, nth_checkpoint(1), history=history)

    answer(
        make_settings(model_server),
        f"openai-chat:{model}",
        agent=TOOLS,
        history=history,
        checkpoint=through_json(died.checkpoints[-1]),
    )

    assert "Earlier" not in json.dumps(died.checkpoints[-1])
    last = model_server.requests(model)[-1]["body"]["messages"]
    assert [message["role"] for message in last] == ["system", "user", "assistant", "user", "assistant", "tool"]


def test_the_limit_of_model_requests_counts_all_attempts(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [call(("a-{n}", "counted", '{"name": "x"}'))], "loop": True})
    died = stop_at(model_server, model, nth_checkpoint(4))

    turn = answer(
        make_settings(model_server, max_model_requests=3),
        f"openai-chat:{model}",
        agent=TOOLS,
        checkpoint=through_json(died.checkpoints[-1]),
    )

    assert turn.failed == "too_many_model_requests"
    assert len(model_server.requests(model)) == 3


def test_a_checkpoint_of_another_version_is_a_fresh_start(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [{"text": "Fresh."}]}]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}", checkpoint={"version": 0})

    assert turn.done.content == "Fresh."
