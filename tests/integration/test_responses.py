"""OpenAI's responses on the wire."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from app.db.models import Session
from app.events import Done, Thinking, ToolCall, Usage
from app.parameters import Parameters
from tests.factories import change
from tests.stage import Echo, Held, Stage, saying, working
from worker.orchestrator import Checkpoint, TurnFailed, Withdrawal

CALL = ToolCall("c1", "add", {"a": 1})
RESULT = ToolCall("c1", "add", {"a": 1}, tool_result="2", tool_success=True)


def create(stage: Stage, status: int = 200, **fields: Any) -> Any:
    body = {"model": "agent-1", "input": "Hello?", "background": True} | fields
    return stage.call("POST", "/v1/responses", status, json=body)


def uuid(response: Any) -> str:
    digits = response["id"].removeprefix("resp_")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def stream(stage: Stage, response: Any, after: int | None = None) -> list[Any]:
    query = {"stream": "true"} | ({} if after is None else {"starting_after": after})
    text = stage.client.get(f"/v1/responses/{response['id']}", query_string=query).text
    return [json.loads(frame.partition("\ndata: ")[2]) for frame in text.split("\n\n") if frame.startswith("event: ")]


def answered(stage: Stage, answer: Any, **fields: Any) -> Any:
    """A response after its end."""
    with working(stage.settings, answer) as worker:
        created = create(stage, **fields)
        worker.run(uuid(created))
    return stage.get(f"/v1/responses/{created['id']}")


def output_text(response: Any) -> str:
    messages = [item for item in response["output"] if item["type"] == "message"]
    return "".join(part["text"] for item in messages for part in item["content"])


def test_a_response_in_the_background_is_created_followed_and_kept(stage: Stage) -> None:
    answer = saying(Thinking("hm"), CALL, RESULT, "При", "вет 🙂", Done(usage=Usage(10, 5, 3, 1)))
    created = create(stage, metadata={"ticket": "42"}, instructions="Be brief.")
    with working(stage.settings, answer) as worker:
        worker.run(uuid(created))

    ended = stage.get(f"/v1/responses/{created['id']}")
    events = stream(stage, created)

    assert (created["status"], created["output"]) == ("queued", [])
    assert ended["status"] == "completed"
    assert [item["type"] for item in ended["output"]] == ["reasoning", "mcp_call", "message"]
    assert ended["output"][1] | {"id": ""} == {
        "id": "",
        "type": "mcp_call",
        "server_label": "backchat",
        "name": "add",
        "arguments": '{"a": 1}',
        "output": "2",
        "error": None,
        "status": "completed",
    }
    assert output_text(ended) == "Привет 🙂"
    assert ended["usage"]["total_tokens"] == 15
    assert (ended["metadata"], ended["instructions"]) == ({"ticket": "42"}, "Be brief.")
    assert events[-1]["response"] == ended
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    assert events[0]["response"] == created
    assert stream(stage, created, 4) == events[5:]
    assert stream(stage, created, len(events)) == []


def test_without_background_the_call_waits_for_the_answer(stage: Stage) -> None:
    got: list[Any] = []
    client = stage.client.application.test_client()
    body = {"model": "agent-1", "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]}
    asking = threading.Thread(target=lambda: got.append(client.post("/v1/responses", json=body)))
    with working(stage.settings, Echo()) as worker:
        asking.start()
        while not (rows := stage.get("/api/chat/sessions")["sessions"]):
            pass
        worker.run(rows[0]["sessionId"])
        asking.join(30)

    assert got[0].status_code == 200
    assert output_text(got[0].json) == "re: Hi"


@pytest.mark.parametrize(
    ("answer", "status", "details"),
    [
        (saying("part", TurnFailed("model_auth", "Refused.")), "failed", None),
        (saying("part", Done(finish_reason="length")), "incomplete", {"reason": "max_output_tokens"}),
    ],
)
def test_how_it_ended_is_told(stage: Stage, answer: Any, status: str, details: Any) -> None:
    response = answered(stage, answer)

    assert (response["status"], response["incomplete_details"]) == (status, details)
    assert output_text(response) == "part"
    assert (response["error"] or {}).get("message") == ("model_auth: Refused." if status == "failed" else None)
    assert stream(stage, response)[-1]["type"] == f"response.{status}"


def test_a_cancelled_response_says_so_and_ends_its_stream(stage: Stage) -> None:
    held = Held("part", Checkpoint(0))
    with working(stage.settings, held) as worker:
        created = create(stage)
        run = worker.start(uuid(created))
        assert held.said.wait(20)
        while stage.session(uuid(created))["lastSeq"] < 2:
            pass
        running = stage.get(f"/v1/responses/{created['id']}")
        cancelled = stage.call("POST", f"/v1/responses/{created['id']}/cancel")
        run.result(20)

    assert (running["status"], output_text(running)) == ("in_progress", "part")
    assert (cancelled["status"], output_text(cancelled)) == ("cancelled", "part")
    assert stage.call("POST", f"/v1/responses/{created['id']}/cancel") == cancelled
    last = stream(stage, created)[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "cancelled")


def test_what_is_superseded_is_incomplete_in_the_stream_and_not_in_the_response(stage: Stage) -> None:
    response = answered(stage, saying("a ", Checkpoint(0), "lost", Withdrawal(), "b"))

    done = [each["item"] for each in stream(stage, response) if each["type"] == "response.output_item.done"]
    assert [item["status"] for item in done] == ["incomplete", "completed"]
    assert output_text(response) == "a b"


def test_a_response_follows_exactly_the_one_that_it_names(stage: Stage) -> None:
    echo = Echo()
    with working(stage.settings, echo) as worker:

        def say(text: str, **fields: Any) -> Any:
            response = create(stage, input=text, **fields)
            worker.run(uuid(response))
            return response

        one = say("One")
        two = say("Two", previous_response_id=one["id"])
        say("Branch", previous_response_id=one["id"])
        three = say("Three", previous_response_id=two["id"])
        say("Four", conversation=three["conversation"]["id"])
        earlier = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]
        brought = say([*earlier, {"role": "user", "content": "C"}])  # type: ignore[arg-type]
        last = say("D", previous_response_id=brought["id"])

    histories = {turn.message: [each.content for each in turn.history] for turn in echo.turns}
    assert histories["Two"] == histories["Branch"] == ["One", "re: One"]
    assert histories["Three"] == ["One", "re: One", "Two", "re: Two"]
    assert histories["Four"] == [*histories["Three"], "Three", "re: Three"]
    assert histories["D"] == ["A", "B", "C", "re: C"]
    assert one["conversation"] == two["conversation"] == three["conversation"]
    assert last["conversation"] == brought["conversation"] != one["conversation"]


def test_parameters_and_instructions_reach_the_turn(stage: Stage) -> None:
    echo = Echo()
    with working(stage.settings, echo) as worker:
        said = [{"role": "developer", "content": "Speak Klingon."}, {"role": "user", "content": "Hi"}]
        fields = {"temperature": 0.5, "max_output_tokens": 9, "reasoning": {"effort": "low"}}
        worker.run(uuid(create(stage, input=said, instructions="Be brief.", **fields)))

    [turn] = echo.turns
    assert turn.instructions == "Be brief.\n\nSpeak Klingon."
    assert turn.parameters == Parameters(temperature=0.5, max_tokens=9, reasoning_effort="low")


def test_the_answer_outlives_its_events(stage: Stage) -> None:
    response = answered(stage, saying("Привет", Done(usage=Usage(10, 5))))
    change(uuid(response), events_pruned_at=Session.get().created_at)

    kept = stage.get(f"/v1/responses/{response['id']}")

    assert (kept["status"], output_text(kept), kept["usage"]) == ("completed", "Привет", response["usage"])
    gone = stage.get(f"/v1/responses/{response['id']}", 410, stream="true")
    assert gone["error"]["code"] == "gone"


def test_it_is_deleted_and_its_input_listed(stage: Stage) -> None:
    created = create(stage)

    [item] = stage.get(f"/v1/responses/{created['id']}/input_items")["data"]
    deleted = stage.call("DELETE", f"/v1/responses/{created['id']}")

    assert item["content"] == [{"type": "input_text", "text": "Hello?"}]
    assert deleted == {"id": created["id"], "object": "response", "deleted": True}
    assert stage.get(f"/v1/responses/{created['id']}", 404)["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "gpt-5"}, 404, "model_not_found", None),
        ({"input": []}, 400, "invalid_request_error", "input"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, 400, "unsupported_parameter", "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            400,
            "unsupported_parameter",
            "input[0].content[0]",
        ),
        ({"tools": [{"type": "function"}]}, 400, "unsupported_parameter", "tools"),
        ({"store": False}, 400, "unsupported_parameter", "store"),
        ({"text": {"format": {"type": "json_schema"}}}, 400, "unsupported_parameter", "text.format"),
        ({"previous_response_id": "resp_x"}, 400, "invalid_request_error", None),
        ({"previous_response_id": f"resp_{'0' * 32}"}, 404, "not_found", None),
        ({"metadata": {"a": 1}}, 400, "invalid_request_error", "metadata.a"),
    ],
)
def test_what_can_not_be_is_refused_by_name(stage: Stage, fields: Any, status: int, code: str, param: Any) -> None:
    error = create(stage, status, **fields)["error"]

    assert (error["code"], error["param"]) == (code, param)
    assert stage.get("/api/chat/sessions")["sessions"] == []
