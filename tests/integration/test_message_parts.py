"""The parts of a stored answer: what was seen live, in order, after its events are gone."""

from __future__ import annotations

from typing import Any

import pytest

from app.events import Done, Thinking, ToolCall, parts
from tests.stage import Held, Stage, saying, working
from worker.orchestrator import Checkpoint, TurnFailed, Withdrawal

CALL = ToolCall("c1", "add", {"a": 1})
RESULT = ToolCall("c1", "add", {"a": 1}, tool_result="2 🙂", tool_success=True, duration_ms=7)
TOOL = {
    "kind": "tool",
    "toolCallId": "c1",
    "toolName": "add",
    "toolArgs": {"a": 1},
    "toolResult": "2 🙂",
    "toolSuccess": True,
    "durationMs": 7,
}


def text(said: str) -> dict[str, Any]:
    return {"kind": "text", "text": said}


def thought(said: str) -> dict[str, Any]:
    return {"kind": "reasoning", "text": said}


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        (["Привет ", "🙂"], [text("Привет 🙂")]),
        ([Thinking("hm"), "Yes."], [thought("hm"), text("Yes.")]),
        (
            ["Let me see. ", Thinking("add"), CALL, RESULT, "Да: ", "2"],
            [text("Let me see. "), thought("add"), TOOL, text("Да: 2")],
        ),
        (["a", CALL, RESULT, Thinking("x"), "b", CALL, RESULT], [text("a"), TOOL, thought("x"), text("b"), TOOL]),
        (["lost", CALL, RESULT, Done(content="other")], [TOOL, text("other")]),
        (["lost", Withdrawal(), "kept"], [text("kept")]),
        (["a ", Checkpoint(1), CALL, RESULT, Checkpoint(2), "lost", Withdrawal(), "b"], [text("a "), TOOL, text("b")]),
        (
            [Thinking("hm"), CALL, TurnFailed("no", "No.")],
            [thought("hm"), TOOL | dict.fromkeys(("toolResult", "toolSuccess", "durationMs"))],
        ),
        (["part", TurnFailed("no", "No.")], [text("part")]),
        ([TurnFailed("no", "No.")], []),
    ],
)
def test_an_answer_keeps_its_parts_in_order(stage: Stage, steps: list[Any], kept: list[Any]) -> None:
    with working(stage.settings, saying(*steps)) as worker:
        session = stage.ask(worker, "Hello")

    question, answer = stage.messages(session["conversationId"])
    assert question["parts"] is None
    assert answer["parts"] == kept


def test_the_parts_of_a_cancelled_answer_are_those_that_it_had(stage: Stage) -> None:
    held = Held("Let me see. ", CALL, RESULT, "It is", Checkpoint(1))
    with working(stage.settings, held) as worker:
        session_id = stage.post("Hello")["sessionId"]
        run = worker.start(session_id)
        assert held.said.wait(20)
        while stage.session(session_id)["lastSeq"] < 5:
            pass
        session = stage.cancel(session_id)
        run.result(20)

    assert stage.messages(session["conversationId"])[1]["parts"] == [text("Let me see. "), TOOL, text("It is")]


def test_a_session_that_ended_before_it_began_has_no_parts(stage: Stage) -> None:
    session = stage.cancel(stage.post("Hello")["sessionId"])

    assert stage.messages(session["conversationId"])[1]["parts"] == []


def test_large_parts_are_cut_and_say_so(stage: Stage) -> None:
    large = "x" * 100_000
    calls = [ToolCall(f"c{n}", "read", {}, tool_result=large, tool_success=True) for n in range(40)]
    with working(stage.settings, saying(Thinking(large), *calls, large)) as worker:
        session = stage.ask(worker, "Hello")

    kept = stage.messages(session["conversationId"])[1]["parts"]
    assert [part["kind"] for part in kept] == ["reasoning", *["tool"] * 40, "text"]
    assert kept[-1]["text"] == large
    assert all(part["truncated"] for part in kept[:-1])
    assert 500_000 < sum(len(part.get("toolResult") or "") for part in kept) < parts.PARTS_CHARACTERS
