"""The history of an agent: what is written when, and how it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import peewee
import pytest

from app import db, sessions
from app.db.models import AgentEvent, Session
from app.events import Delta, Done, Error, Thinking, ToolCall, Usage
from app.sessions import commit
from app.sessions.commit import Batch
from tests.factories import change, make_claim, shown, write
from tests.stage import Echo, Held, Stage, saying, working
from worker.orchestrator import Checkpoint, TurnFailed

TYPES = {
    "prompt_sent", "activity_changed", "thinking", "tool_use", "output", "result", "usage_update", "context_cleared",
}  # fmt: skip


def kinds(events: list[Any]) -> list[str]:
    return [event["eventType"] for event in events]


# what is written


def test_a_turn_is_told_in_order_with_result_before_idle(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(models="openai:gpt-x")
    call = {"tool_call_id": "a", "tool_name": "calculate", "tool_args": {"expression": "2 + 3"}}
    steps = [
        Thinking("First "),
        Thinking("thought"),
        ToolCall(**call),
        ToolCall("b", "search", {}),
        ToolCall("b", "search", {}, "broken", False, 3),
        ToolCall(**call, tool_result="5", tool_success=True, duration_ms=2),
        Thinking("Second"),
        ToolCall("c", "calculate", {"expression": "1"}),
        ToolCall("c", "calculate", {"expression": "1"}, "1", True, 1),
        "It is ",
        "5.\nReally.",
        Done(model="gpt-x", usage=Usage(20, 7, 12, 4)),
    ]
    with working(stage.settings, saying(*steps)) as worker:
        session = stage.ask(worker, "What is 2 + 3?", model="openai:gpt-x")

    events = stage.history()
    usage = {"input": 20, "output": 7, "cacheRead": 12, "cacheWrite": 4, "total": 27}
    assert [(event["eventType"], event["content"]) for event in events] == [
        ("prompt_sent", "What is 2 + 3?"),
        ("activity_changed", "busy"),
        ("thinking", "First thought"),
        ("tool_use", "calculate"),
        ("tool_use", "search"),
        ("thinking", "Second"),
        ("tool_use", "calculate"),
        ("output", "It is 5.\nReally."),
        ("usage_update", None),
        ("result", "ok"),
        ("activity_changed", "idle"),
    ]
    used = [event["metadata"] for event in events if event["eventType"] == "tool_use"]
    assert [(each["toolCallId"], each["input"], each["result"], each["ok"], each["durationMs"]) for each in used] == [
        ("a", {"expression": "2 + 3"}, "5", True, 2),
        ("b", {}, "broken", False, 3),
        ("c", {"expression": "1"}, "1", True, 1),
    ]
    result = events[-2]["metadata"]
    assert (result["ok"], result["status"], result["tokenUsage"], result["cost"], result["turns"]) == (
        True, "done", usage, None, 3,
    )  # fmt: skip
    assert result["durationMs"] == session["processingTimeMs"]
    assert events[-3]["metadata"]["tokenUsage"] == usage
    for seq, event in enumerate(events, start=1):
        UUID(event["id"])
        assert (event["agentId"], event["conversationId"]) == (1, session["conversationId"])
        assert (event["sessionId"], event["seq"], event["sessionNumber"]) == (session["sessionId"], seq, 1)
    assert [event["createdAt"] for event in events] == sorted(event["createdAt"] for event in events)


def test_a_failed_turn_has_a_result_although_nothing_is_known_of_its_usage(stage: Stage) -> None:
    with working(stage.settings, saying("part", TurnFailed("model_error", "it broke"))) as worker:
        stage.ask(worker, "Hello?")

    events = stage.history()
    assert kinds(events) == ["prompt_sent", "activity_changed", "output", "result", "activity_changed"]
    assert events[2]["metadata"]["partial"] is True
    result = events[3]
    assert (result["content"], result["metadata"]["ok"], result["metadata"]["tokenUsage"]) == ("error", False, None)
    assert (result["metadata"]["errorCode"], result["metadata"]["errorMessage"]) == ("model_error", "it broke")


def test_an_answer_without_usage_has_a_result_and_no_usage_update(stage: Stage) -> None:
    with working(stage.settings, saying("Hello")) as worker:
        stage.ask(worker, "Hello?")

    events = stage.history()
    assert kinds(events) == ["prompt_sent", "activity_changed", "output", "result", "activity_changed"]
    assert (events[3]["metadata"]["ok"], events[3]["metadata"]["tokenUsage"], events[3]["metadata"]["turns"]) == (
        True, None, 1,
    )  # fmt: skip


def test_a_session_that_was_cancelled_while_it_waited_was_never_busy(stage: Stage) -> None:
    stage.cancel(stage.post("Hello?")["sessionId"])

    events = stage.history()
    assert kinds(events) == ["prompt_sent", "result"]
    assert (events[1]["metadata"]["errorCode"], events[1]["metadata"]["turns"]) == ("cancelled", 0)


def test_a_cancelled_turn_ends_idle_with_the_call_that_had_no_result(stage: Stage) -> None:
    held = Held(ToolCall("a", "sleep", {"s": 9}), Checkpoint({}))
    with working(stage.settings, held) as worker:
        started = stage.post("Hello?")
        run = worker.start(started["sessionId"])
        assert held.said.wait(20)
        stage.cancel(started["sessionId"])
        run.result(20)

    events = stage.history()
    assert kinds(events) == ["prompt_sent", "activity_changed", "tool_use", "result", "activity_changed"]
    assert (events[2]["metadata"]["result"], events[2]["metadata"]["ok"]) == (None, None)
    assert events[4]["content"] == "idle"


def test_a_resumed_session_is_busy_once_and_what_was_superseded_is_not_told(stage: Stage) -> None:
    session_id = stage.post("Hello?")["sessionId"]
    first = make_claim(session_id)
    write(first, Thinking(""), Thinking("kept"), ToolCall("a", "t", {}), checkpoint="{}")
    write(first, Thinking("superseded"), ToolCall("b", "t", {}), ToolCall("b", "t", {}, "x", True, 1))
    change(session_id, lease_until_ms=1)
    second = make_claim(session_id, worker="worker-2")
    write(second, Thinking("", supersedes_from=4), ToolCall("a", "t", {}, "y", True, 1), Thinking("again"))
    write(second, Done("answer"))

    events = stage.history()

    assert kinds(events) == [
        "prompt_sent", "activity_changed", "thinking", "tool_use", "thinking", "output", "result", "activity_changed",
    ]  # fmt: skip
    assert [event["content"] for event in events][2:5] == ["kept", "t", "again"]
    assert events[3]["metadata"]["result"] == "y"
    assert [event["seq"] for event in events] == list(range(1, 9))


def test_a_large_result_is_cut_and_says_so(stage: Stage) -> None:
    large = "ж" * 100_000
    with working(stage.settings, saying(ToolCall("a", "t", {}), ToolCall("a", "t", {}, large, True, 1), "x")) as worker:
        stage.ask(worker, "Hello?")

    [used] = stage.history(event_type="tool_use")
    assert (used["metadata"]["truncated"], used["metadata"]["result"]) == (True, large[: 64 * 1024])


def test_a_result_is_told_beyond_a_nul(stage: Stage) -> None:
    short, large = "a\0ж", "\0" + "ж" * 100_000
    calls = [ToolCall("a", "t", {}, short, True, 1), ToolCall("b", "t", {}, large, True, 1)]
    with working(stage.settings, saying(*calls)) as worker:
        stage.ask(worker, "Hello?")

    told = [used["metadata"] for used in stage.history(event_type="tool_use")]
    assert [each["result"] for each in told] == [short, large[: 64 * 1024]]
    assert [each["truncated"] for each in told] == [False, True]


def test_large_arguments_are_cut_in_the_history_and_say_so(stage: Stage) -> None:
    args = {"text": "ж" * 100_000}
    with working(stage.settings, saying(ToolCall("a", "t", args), ToolCall("a", "t", args, "5", True, 1))) as worker:
        session = stage.ask(worker, "Hello?")

    [used] = stage.history(event_type="tool_use")
    beginning = json.dumps(args, ensure_ascii=False, separators=(",", ":"))[: 64 * 1024]
    assert (used["metadata"]["truncated"], used["metadata"]["input"]) == (True, beginning)
    assert used["metadata"]["result"] == "5"
    [told] = stage.messages(session["conversationId"])[1]["metadata"]["toolCalls"]
    assert told == {"toolCallId": "a", "toolName": "t", "args": beginning, "isError": False}
    page = stage.get(f"/api/chat/session/{session['sessionId']}/events")
    assert [event["toolArgs"] for event in page["events"] if event["eventType"] == "tool_call"] == [args, args]


def test_of_more_calls_than_a_message_can_tell_the_first_ones_are_told_whole(stage: Stage) -> None:
    args = {"text": "ж" * 50_000}
    calls = [(ToolCall(f"c{n}", "t", args), ToolCall(f"c{n}", "t", args, "ok", True, 1)) for n in range(40)]
    with working(stage.settings, saying(*(event for both in calls for event in both))) as worker:
        session = stage.ask(worker, "Hello?")

    metadata = stage.messages(session["conversationId"])[1]["metadata"]
    assert [told["toolCallId"] for told in metadata["toolCalls"]] == [f"c{n}" for n in range(40)]
    assert [told["args"] for told in metadata["toolCalls"]] == [args] * 3 + [None] * 37
    assert stage.get("/api/agents/1/conversation", event_type="tool_use")["total"] == 40


def test_long_reasoning_is_told_in_pieces(stage: Stage) -> None:
    with working(stage.settings, saying(*[Thinking("x" * 16_384)] * 100, "answer")) as worker:
        stage.ask(worker, "Hello?")

    thoughts = [event["content"] for event in stage.history(event_type="thinking")]
    assert list(map(len, thoughts)) == [1024 * 1024, 100 * 16_384 - 1024 * 1024]


def test_a_row_that_can_not_be_stored_fails_the_end_of_its_session(stage: Stage) -> None:
    claim = make_claim(stage.post("Hello?")["sessionId"])
    taken = stage.history()[-1]
    db.transaction(lambda: AgentEvent.update(seq=3).where(AgentEvent.id == taken["id"]).execute())

    with pytest.raises(peewee.IntegrityError):
        write(claim, Done("answer"))

    session = stage.session(claim.session_id)
    assert (session["status"], session["finalResponse"]) == ("running", None)
    assert len(stage.messages(session["conversationId"])) == 1


def test_an_adopted_session_without_a_conversation_has_no_history(stage: Stage) -> None:
    row = {"session_id": "old", "status": "running", "user_message": "Hello?", "owner": "local"}
    db.transaction(lambda: Session.insert(**row).execute())

    sessions.end("old", Error("worker_lost", "lost"))

    assert stage.history() == []


# how it is read


@pytest.fixture
def told(stage: Stage) -> str:
    """Three turns of two conversations; the id of the first one, which was cleared after its first turn."""
    with working(stage.settings, Echo()) as worker:
        first = stage.ask(worker, "one")["conversationId"]
        stage.ask(worker, "other")
        stage.delete(f"/api/conversations/{first}/messages")
        stage.ask(worker, "two", conversationId=first)
    return first


def test_filters_and_totals_agree(stage: Stage, told: str) -> None:
    everything = stage.history()
    assert len(everything) == 3 * 6 + 1
    cases: list[tuple[dict[str, Any], Callable[[Any], bool]]] = [
        ({}, lambda event: True),
        ({"conversation": told}, lambda event: event["conversationId"] == told),
        ({"conversation": told.upper()}, lambda event: event["conversationId"] == told),
        ({"conversation": "00000000-0000-4000-8000-000000000000"}, lambda event: False),
        ({"session": everything[0]["sessionId"]}, lambda event: event["sessionId"] == everything[0]["sessionId"]),
        ({"session": "2"}, lambda event: event["sessionNumber"] == 2),
        ({"session": "1", "conversation": told}, lambda e: (e["sessionNumber"], e["conversationId"]) == (1, told)),
        ({"event_type": "result"}, lambda event: event["eventType"] == "result"),
        ({"event_type": "output, result"}, lambda event: event["eventType"] in ("output", "result")),
        ({"event_type": ["output", "result"]}, lambda event: event["eventType"] in ("output", "result")),
        (
            {"event_type": "result", "conversation": told},
            lambda event: (event["eventType"], event["conversationId"]) == ("result", told),
        ),
        ({"since": everything[6]["createdAt"]}, lambda event: event["createdAt"] >= everything[6]["createdAt"]),
        ({"until": everything[6]["createdAt"]}, lambda event: event["createdAt"] < everything[6]["createdAt"]),
        ({"since": "1800-01-01", "until": "9999-12-31T23:59:59+00:00"}, lambda event: True),
    ]  # fmt: skip

    for query, expected in cases:
        for order in ("asc", "desc"):
            page = stage.get("/api/agents/1/conversation", order=order, **query)
            wanted = [event for event in everything if expected(event)]
            assert page["events"] == (wanted if order == "asc" else wanted[::-1]), query
            assert (page["total"], page["hasMore"], page["nextCursor"]) == (len(wanted), False, None), query
            assert stage.get("/api/agents/1/conversation", order=order, limit=1, **query)["total"] == len(wanted)


def test_since_is_inclusive_and_until_before_and_after_are_exclusive_to_the_microsecond(stage: Stage) -> None:
    stage.cancel(stage.post("Hello?")["sessionId"])
    at = datetime.fromisoformat(stage.history()[0]["createdAt"])
    microsecond = timedelta(microseconds=1)

    def seen(**query: datetime) -> int:
        return len(stage.history(**{name: moment.isoformat() for name, moment in query.items()}))

    assert [seen(since=at - microsecond), seen(since=at), seen(since=at + microsecond)] == [2, 2, 0]
    assert [seen(until=at - microsecond), seen(until=at), seen(until=at + microsecond)] == [0, 0, 2]
    assert [seen(before=at - microsecond), seen(before=at), seen(before=at + microsecond)] == [0, 0, 2]
    assert [seen(after=at - microsecond), seen(after=at), seen(after=at + microsecond)] == [2, 0, 0]


@pytest.mark.parametrize("shape", ["%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%S.%f+00:00", "%Y-%m-%d %H:%M:%S.%f"])
def test_a_time_may_have_any_iso_form_and_is_utc_without_a_zone(stage: Stage, shape: str) -> None:
    stage.cancel(stage.post("Hello?")["sessionId"])
    now = datetime.now(UTC)

    assert stage.history(until=(now - timedelta(minutes=1)).strftime(shape)) == []
    assert len(stage.history(until=(now + timedelta(minutes=1)).strftime(shape))) == 2
    # A plus that nobody escaped arrives as a space.
    path = f"/api/agents/1/conversation?since={(now + timedelta(minutes=1)).strftime('%Y-%m-%dT%H:%M:%S+00:00')}"
    assert stage.get(path)["events"] == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 501}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"before": "yesterday"}, "before"),
        ({"after": "bTE"}, "after"),
        ({"after": ""}, "after"),
        ({"before": "2026-13-01"}, "before"),
        ({"since": "soon"}, "since"),
        ({"until": "2026-02-30"}, "until"),
        ({"since": ""}, "since"),
        ({"event_type": "delta"}, "event_type"),
        ({"event_type": "result,"}, "event_type"),
        ({"event_type": ""}, "event_type"),
        ({"event_type": ["result", "x"]}, "event_type"),
        ({"session": "0"}, "session"),
        ({"session": "9" * 20}, "session"),
        ({"session": "²"}, "session"),
        ({"session": "1.5"}, "session"),
        ({"session": "a session"}, "session"),
        ({"session": ""}, "session"),
        ({"conversation": ""}, "conversation"),
        ({"conversation": "x" * 36}, "conversation"),
        ({"order": "newest"}, "order"),
        ({"cursor": "x"}, "cursor"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(stage: Stage, query: dict[str, Any], named: str) -> None:
    problem = stage.get("/api/agents/1/conversation", 400, **query)

    assert problem["code"] == "invalid_request"
    assert problem.get("parameter") == named or named in problem["errors"]


def test_the_default_limit_is_a_hundred(stage: Stage) -> None:
    conversation_id = str(uuid4())
    for _ in range(55):
        stage.cancel(stage.post("x", conversationId=conversation_id)["sessionId"])

    page = stage.get("/api/agents/1/conversation")

    assert (len(page["events"]), page["total"], page["hasMore"]) == (100, 110, True)
    rest = stage.get("/api/agents/1/conversation", after=page["nextCursor"])
    assert (len(rest["events"]), rest["total"], rest["hasMore"], rest["nextCursor"]) == (10, 110, False, None)


def test_before_gives_the_page_just_before_and_after_the_page_just_after(stage: Stage, told: str) -> None:
    everything = stage.history()
    middle = stage.get("/api/agents/1/conversation", limit=9)["nextCursor"]  # after row 9

    def page(**query: Any) -> list[int]:
        return [everything.index(event) for event in stage.history(limit=3, **query)]

    assert page(before=middle) == [5, 6, 7]
    assert page(before=middle, order="desc") == [7, 6, 5]
    assert page(after=middle) == [9, 10, 11]
    assert page(after=middle, order="desc") == [11, 10, 9]
    last = stage.get("/api/agents/1/conversation", limit=12)["nextCursor"]  # after row 12
    assert page(after=middle, before=last) == [9, 10]
    assert page(after=middle, before=last, order="desc") == [10, 9]


def test_the_summary_counts_what_is_there(stage: Stage, told: str) -> None:
    everything = stage.history()

    summary = stage.get("/api/agents/1/conversation/summary")

    assert summary == {
        "agentId": 1,
        "totalEvents": 19,
        "eventCounts": {kind: kinds(everything).count(kind) for kind in TYPES},
        "sessionCount": len({event["sessionNumber"] for event in everything}),
        "session_count": len({event["sessionNumber"] for event in everything}),
        "firstEventAt": everything[0]["createdAt"],
        "lastEventAt": everything[-1]["createdAt"],
    }


def test_an_offset_passes_over_rows(stage: Stage, told: str) -> None:
    everything = stage.history()

    for order in ("asc", "desc"):
        ordered = everything if order == "asc" else everything[::-1]
        assert stage.history(offset=0, limit=4, order=order) == ordered[:4]
        assert stage.history(offset=7, limit=4, order=order) == ordered[7:11]
    two = [event for event in everything if event["eventType"] in ("prompt_sent", "result")]
    assert stage.history(offset=1, limit=2, event_type="prompt_sent,result") == two[1:3]
    assert stage.history(offset=len(everything)) == []
    page = stage.get("/api/agents/1/conversation", offset=2, limit=3)
    assert (page["total"], page["hasMore"]) == (len(everything), True)
    later = stage.history(after=page["nextCursor"])
    assert page["events"] + later == everything[2:]
    problem = stage.get("/api/agents/1/conversation", 400, offset=1, before=page["nextCursor"])
    assert problem["parameter"] == "offset"


def test_types_may_have_the_prefix_of_the_first_deployment(stage: Stage, told: str) -> None:
    assert stage.history(event_type="agent:tool_use, agent:result") == stage.history(event_type="tool_use,result") != []
    for unknown in ("agent:", "agent:agent:result", "agents:result"):
        assert "event_type" in stage.get("/api/agents/1/conversation", 400, event_type=unknown)["detail"]


def test_the_summary_of_an_agent_that_did_nothing_is_empty(stage: Stage) -> None:
    summary = stage.get("/api/agents/1/conversation/summary")

    assert (summary["totalEvents"], summary["sessionCount"]) == (0, 0)
    assert summary["eventCounts"] == dict.fromkeys(TYPES, 0)
    assert (summary["firstEventAt"], summary["lastEventAt"]) == (None, None)


AGENTS = """
[[agents]]
id = 2
name = "Second"
model = "openai:gpt-x"
instructions = "The secret recipe"
tools = ["calculate"]
context_tokens = 5000
[[agents.mcp_servers]]
name = "files"
command = "mcp-files --token=hidden"
args = ["--key", "hidden"]
env = { API_KEY = "hidden" }
[[agents.mcp_servers]]
name = "web"
url = "http://user:hidden@127.0.0.1/mcp?key=hidden"
headers = { Authorization = "Bearer hidden" }
"""


@pytest.fixture
def two_agents(make_stage: Callable[..., Stage], tmp_path: Path) -> Stage:
    (tmp_path / "agents.toml").write_text(AGENTS)
    return make_stage(agents_file=str(tmp_path / "agents.toml"))


def test_agents_are_shown_without_secrets(two_agents: Stage) -> None:
    listed = two_agents.get("/api/agents")["agents"]

    assert [agent["id"] for agent in listed] == [1, 2]
    assert listed[0]["model"] == "demo"
    assert two_agents.get("/api/agents/2") == listed[1]
    assert listed[1] == {
        "id": 2,
        "name": "Second",
        "description": "",
        "model": "openai:gpt-x",
        "tools": ["calculate"],
        "mcpServers": [{"name": "files", "transport": "stdio"}, {"name": "web", "transport": "http"}],
        "contextTokens": 5000,
    }


def test_a_row_is_shown_under_its_own_agent_only(two_agents: Stage) -> None:
    stage = two_agents
    stage.cancel(stage.post("Hello?", agentId=2)["sessionId"])
    [prompt, _] = stage.history(2)

    assert stage.get(f"/api/agents/2/conversation/{prompt['id']}") == prompt
    stage.get(f"/api/agents/1/conversation/{prompt['id']}", 404)
    stage.get(f"/api/agents/2/conversation/{uuid4()}", 404)
    for nonsense in ("nonsense", "жук", "%F0%9F%99%82", "%00", "x" * 1000):
        stage.get(f"/api/agents/2/conversation/{nonsense}", 404)
    assert stage.history(1) == []


def test_deleting_a_history_touches_no_other_and_seqs_go_on(two_agents: Stage) -> None:
    stage = two_agents
    conversation_id = stage.post("Hello?", agentId=2)["conversationId"]
    [session] = stage.get("/api/chat/sessions")["sessions"]
    stage.cancel(session["sessionId"])
    stage.cancel(stage.post("Hello?", agentId=1)["sessionId"])

    stage.delete("/api/agents/2/conversation")
    stage.delete("/api/agents/2/conversation")

    assert stage.get("/api/agents/2/conversation")["total"] == 0
    assert stage.get("/api/agents/1/conversation")["total"] == 2
    assert len(stage.messages(conversation_id)) == 2
    stage.cancel(stage.post("Again", agentId=2, conversationId=conversation_id)["sessionId"])
    assert [event["seq"] for event in stage.history(2)] == [3, 4]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/agents/7"),
        ("GET", "/api/agents/x"),
        ("GET", "/api/agents/7/conversation"),
        ("GET", "/api/agents/7/conversation/summary"),
        ("GET", "/api/agents/7/conversation/00000000-0000-4000-8000-000000000000"),
        ("DELETE", "/api/agents/7/conversation"),
    ],
)
def test_an_unknown_agent_is_not_found(stage: Stage, method: str, path: str) -> None:
    assert stage.call(method, path, 404)["code"] == "not_found"


def test_large_answers_that_end_in_one_flush_are_all_stored(stage: Stage) -> None:
    answers = ["東京" * 300_000, "b" * 2_000_000, "c", "ж" * 1_500_000]
    claims = [make_claim(stage.post(f"question {number}")["sessionId"]) for number in range(len(answers))]

    ends = zip(claims, answers, strict=True)
    outcomes = commit.commit([Batch(claim, 0, [Thinking(f"of {text[0]}"), Done(text)]) for claim, text in ends])

    assert [outcome.status for outcome in outcomes] == ["done"] * 4
    for claim, answer in zip(claims, answers, strict=True):
        [_, message] = stage.get(f"/api/sessions/{claim.session_id}/messages")["messages"]
        assert message["content"] == answer
        told = stage.history(session=claim.session_id)
        assert [event["seq"] for event in told] == [1, 2, 3, 4, 5, 6]
        assert [event["content"] for event in told][2:4] == [f"of {answer[0]}", answer]
    assert stage.get("/api/agents/1/conversation/summary")["totalEvents"] == 24
    found = stage.get("/api/conversations/search", q="京東")["results"]
    assert [match["sessionId"] for match in found] == [claims[0].session_id]


@pytest.mark.usefixtures("store")
def test_of_a_session_that_thought_and_did_a_lot_the_first_part_is_kept() -> None:
    claim = make_claim()
    thoughts = [Thinking(f"{n:04}" + "x" * 65_000) for n in range(200)]
    call = ToolCall("late", "read", {"a": 1})
    write(claim, Thinking(""), ToolCall("early", "read", {"a": 1}), *thoughts, call)
    write(claim, replace(call, tool_result="r", tool_success=True, duration_ms=1), Delta("answer"))

    sessions.end(claim.session_id, Error("cancelled", "…"))

    mine = AgentEvent.session_id == claim.session_id
    kept = db.reading(lambda: list(AgentEvent.select().where(mine).order_by(AgentEvent.seq)))
    thinking = "".join(entry.content for entry in kept if entry.event_type == "thinking")
    tools = [entry.metadata for entry in kept if entry.event_type == "tool_use"]
    assert 8_000_000 < len(thinking) < 9_000_000
    assert thinking == "".join(each.content for each in thoughts)[: len(thinking)]
    assert [(tool["toolCallId"], tool["input"], tool["ok"], tool["truncated"]) for tool in tools] == [
        ("early", {"a": 1}, None, False),
        ("late", None, True, True),
    ]
    assert shown(claim.session_id)["finalResponse"] == "answer"
