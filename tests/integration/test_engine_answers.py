"""The engine against the scripted server: what the model says arrives as it said it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app.events import Delta, Done, Thinking, ToolCall, Usage
from tests.model_server import ModelServer
from tests.turns import answer, make_agent, make_settings, make_turn, record, with_engine
from worker.orchestrator import Checkpoint, Message

APIS = ["openai-chat", "openai"]


def say(*texts: str, **more: Any) -> dict[str, Any]:
    return {"steps": [{"text": text} for text in texts], **more}


def call(index: int, call_id: str, name: str, *arguments: str) -> list[dict[str, Any]]:
    first = {"index": index, "id": call_id, "name": name, "arguments": arguments[0]}
    return [{"tool": first}, *({"tool": {"index": index, "arguments": piece}} for piece in arguments[1:])]


@pytest.mark.parametrize("api", APIS)
def test_reasoning_tools_and_answer_arrive_in_order_although_the_network_cuts_characters(
    model_server: ModelServer, api: str
) -> None:
    first = {
        "steps": [
            {"reasoning": "Надо "},
            {"reasoning": "считать 🧮"},
            {"text": "Сейчас… "},
            *call(0, "a", "calculate", '{"expr', 'ession": "1/4 + ', '2"}'),
            *call(1, "b", "current_time", '{"zone": ', '"Europe/Moscow"}'),
        ],
        "split": 3,
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 64},
    }
    second = {
        "steps": [{"text": "Итог: "}, {"echo": "tool"}, {"text": " 🙂"}],
        "split": 1,
        "usage": {"prompt_tokens": 150, "completion_tokens": 7, "cached_tokens": 128},
    }
    model = model_server.add({"answers": [first, second]})

    turn = answer(make_settings(model_server), f"{api}:{model}", message="Сколько?")

    assert turn.thinking == "Надо считать 🧮"
    [before, after] = turn.calls("a")
    assert (before.tool_name, before.tool_args, before.tool_success) == (
        "calculate",
        {"expression": "1/4 + 2"},
        None,
    )
    assert (after.tool_result, after.tool_success) == ("2.25", True)
    assert after.duration_ms is not None
    assert [event.tool_success for event in turn.calls("b")] == [None, True]
    assert turn.text.startswith("Сейчас… \n\nИтог: 2.25|")
    assert turn.text.endswith(" 🙂")
    assert turn.done.content == turn.text
    assert turn.done.usage == Usage(250, 27, 192, 0)
    assert turn.done.model == model
    kinds = [type(event) for event in turn.events if not isinstance(event, Checkpoint)]
    assert kinds.index(Thinking) < kinds.index(Delta) < kinds.index(ToolCall) < kinds.index(Done)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("cut_off", "reason"), [(False, "stop"), (True, "length")])
def test_an_answer_says_why_the_model_stopped(model_server: ModelServer, api: str, cut_off: bool, reason: str) -> None:
    model = model_server.add({"answers": [say("Once upon a time", cut_off=cut_off)]})

    turn = answer(make_settings(model_server), f"{api}:{model}")

    assert (turn.done.content, turn.done.finish_reason) == ("Once upon a time", reason)


def test_the_model_gets_instructions_history_and_the_key(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [say("Yes.")]})
    history = (Message("user", "First?"), Message("assistant", "First."))

    answer(
        make_settings(model_server),
        f"openai-chat:{model}",
        message="Second?",
        history=history,
        agent=make_agent(instructions="Be brief.", tools=()),
    )

    [request] = model_server.requests(model)
    assert request["authorization"] == "Bearer secret-key"
    assert [(message["role"], message["content"]) for message in request["body"]["messages"]] == [
        ("system", "Be brief."),
        ("user", "First?"),
        ("assistant", "First."),
        ("user", "Second?"),
    ]
    assert "tools" not in request["body"]


def test_an_answer_without_usage_tells_none(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [say("Yes.", usage=None)]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    assert turn.done.usage is None


def test_text_comes_at_once_and_then_in_merged_pieces(model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [{"repeat": {"text": "{i} ", "count": 100, "every": 0.01}}]}]})

    turn = answer(make_settings(model_server), f"openai-chat:{model}")

    deltas = turn.of(Delta)
    assert turn.text == "".join(f"{i} " for i in range(100))
    assert deltas[0].content == "0 "
    assert 3 <= len(deltas) <= 30


def test_search_finds_messages_of_the_conversation(model_server: ModelServer) -> None:
    async def search(query: str, limit: int) -> list[Message]:
        return [Message("user", f"about {query}", "2026-01-02T03:04:05.000Z")][:limit]

    answers = [{"steps": call(0, "a", "search_conversation", '{"query": "cats"}')}, {"steps": [{"echo": "tool"}]}]
    model = model_server.add({"answers": answers})

    turn = answer(make_settings(model_server), f"openai-chat:{model}", search=search)

    assert turn.text == "[user, 2026-01-02T03:04:05.000Z] about cats"


def test_turns_share_connections(model_server: ModelServer) -> None:
    settings = make_settings(model_server)
    model = model_server.add({"answers": [say("Yes.")]})

    async def several(engine: Any) -> list[str]:
        return [(await record(engine(make_turn(settings, f"openai-chat:{model}")))).text for _ in range(3)]

    assert with_engine(settings, several) == ["Yes."] * 3
    assert len({tuple(request["peer"]) for request in model_server.requests(model)}) == 1


@pytest.mark.parametrize(
    ("message", "tools", "says"),
    [
        ("What is (2 + 3) * 4.5?", ["calculate"], "demo"),
        ("What is 6*7, and what time is it?", ["calculate", "current_time"], "42"),
        ("Сколько будет 1/3 + 1?", ["calculate"], "демонстрационная"),
        ("Hello", ["current_time"], "demo"),
        # The cards of the page.
        ("What is 17 % of 2,340, plus 8?", ["calculate"], "= **405.8**"),
        (
            "What time is it in Tokyo and in Lisbon?",
            ["current_time"] * 2,
            "JST (UTC+0900)**\n- Lisbon (Europe/Lisbon): **",
        ),
        ("Explain how background jobs survive a restart.", ["current_time"], "is not made again"),
        ("Сколько будет 17 % от 2340, плюс 8?", ["calculate"], "= **405.8**"),
        ("Который час в Токио и в Лиссабоне?", ["current_time"] * 2, "Лиссабоне (Europe/Lisbon): **"),
        ("Объясни, как фоновые задачи переживают перезапуск.", ["current_time"], "не повторяется"),
        # What has no value is said, and no tool is called in vain.
        ("What is 10 divided by 0?", [], "Division by zero has no value."),
        ("What time is it in Atlantis?", ["current_time"], "I recognised no place"),
        # Markdown on request.
        ("Show me a table", [], "| --- |"),
        ("Some code, please", [], "```python\n"),
        ("Code for the browser", [], "```js\n"),
        ("A bulleted list", [], "1. "),
        (
            "The time in Oslo and 3 times 4,500, as a table",
            ["calculate", "current_time"],
            "| `3 * 4500` | 13500 |\n| Oslo",
        ),
    ],
)
def test_the_demo_model_calls_real_tools_and_says_that_it_is_one(
    monkeypatch: pytest.MonkeyPatch, message: str, tools: list[str], says: str
) -> None:
    monkeypatch.setattr("worker.engine.demo.model.WORD_S", 0)

    turn = answer(make_settings(), "demo", message=message)

    assert [event.tool_name for event in turn.of(ToolCall) if event.tool_success] == tools
    assert says in turn.text
    assert re.search("demo model|демонстрационная модель", turn.text)
    assert turn.thinking
    assert turn.done.model == "demo"
