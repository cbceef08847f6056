"""A message's whole way on both databases: in over HTTP, answered by the engine through the real client, polled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import db
from app.api import create_app
from app.db import schema
from app.settings import Settings
from tests.model_server import ModelServer
from tests.servers import RedisServer
from worker.process import WorkerProcess


def answered(client: FlaskClient, settings: Settings, *models: str) -> list[dict[str, Any]]:
    """One session for each model, run to its end by one runtime; in the order given."""
    started = [
        client.post("/api/chat/session", json={"message": "Сколько?", "model": f"openai-chat:{model}"})
        for model in models
    ]
    assert [response.status_code for response in started] == [202] * len(models)
    ids = [response.get_json()["sessionId"] for response in started]

    async def run() -> None:
        runtime = WorkerProcess(settings, sweeps=False)
        await runtime.start()
        try:
            await asyncio.gather(*(runtime.run(session_id) for session_id in ids))
        finally:
            await runtime.close()

    asyncio.run(run())
    return [client.get(f"/api/chat/session/{session_id}").get_json() for session_id in ids]


def events_of(client: FlaskClient, session_id: str, limit: int = 2) -> list[dict[str, Any]]:
    """All events, polled in small pages as a client would."""
    events: list[dict[str, Any]] = []
    page: dict[str, Any] = {"hasMore": True, "nextAfter": 0}
    while page["hasMore"]:
        url = f"/api/chat/session/{session_id}/events?after={page['nextAfter']}&limit={limit}"
        page = client.get(url).get_json()
        assert (page["status"] != "running") == (not page["hasMore"])
        events += page["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["eventType"] in ("done", "error") for event in events] == [False] * (len(events) - 1) + [True]
    return events


@pytest.fixture
def settings(database_url: str, redis_server: RedisServer, model_server: ModelServer) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=redis_server.url,
        openai_api_key="secret-key",
        models="openai-chat:*",
        openai_base_url=model_server.url,
        model_timeout_s=1.0,
    )


@pytest.fixture
def client(settings: Settings) -> FlaskClient:
    db.open_database(settings.database_url)
    schema.migrate()
    return create_app(settings).test_client()


def call(index: int, call_id: str, name: str, *arguments: str) -> list[dict[str, Any]]:
    first = {"index": index, "id": call_id, "name": name, "arguments": arguments[0]}
    return [{"tool": first}, *({"tool": {"index": index, "arguments": piece}} for piece in arguments[1:])]


def test_reasoning_tools_usage_and_cut_characters_are_right_in_the_events_and_in_the_row(
    client: FlaskClient, settings: Settings, model_server: ModelServer
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

    [row] = answered(client, settings, model)

    events = events_of(client, row["sessionId"])
    assert events[0]["eventType"] == "thinking"
    thinking = "".join(event["content"] for event in events if event["eventType"] == "thinking")
    assert thinking == "Надо считать 🧮"
    calls = [event for event in events if event["eventType"] == "tool_call"]
    assert sorted((each["toolCallId"], each["toolSuccess"]) for each in calls if each["toolSuccess"]) == [
        ("a", True),
        ("b", True),
    ]
    [begun, ended] = [each for each in calls if each["toolCallId"] == "a"]
    assert begun["toolArgs"] == ended["toolArgs"] == {"expression": "1/4 + 2"}
    assert (begun["toolResult"], begun["toolSuccess"], ended["toolResult"]) == (None, None, "2.25")
    text = "".join(event["content"] for event in events if event["eventType"] == "delta")
    assert text.startswith("Сейчас… \n\nИтог: 2.25|")
    assert text.endswith(" 🙂")
    done = events[-1]
    assert done["content"] == text == row["finalResponse"]
    assert done["model"] == row["model"] == model
    assert done["usageJson"] == {
        "inputTokens": 250,
        "outputTokens": 27,
        "cacheReadTokens": 192,
        "cacheWriteTokens": 0,
        "totalTokens": 277,
    }
    assert (row["status"], row["totalTokens"], row["cacheReadTokens"], row["errorCode"]) == ("done", 277, 192, None)


#: What the server does → the session's end, and the text that must be kept.
FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "401": ({"answers": [{"fault": {"status": 401}}]}, "model_auth", ""),
    "429 that stays": (
        {"answers": [{"fault": {"status": 429, "headers": {"Retry-After": "600"}}}]},
        "model_rate_limited",
        "",
    ),
    "500 that stays": ({"answers": [{"fault": {"status": 500}}]}, "model_unavailable", ""),
    "cut in mid-stream": ({"answers": [{"steps": [{"text": "Half"}, {"cut": True}]}]}, "model_unavailable", "Half"),
    "stall": ({"answers": [{"steps": [{"text": "Half"}, {"stall": True}]}]}, "model_timeout", "Half"),
    "empty answer": ({"answers": [{"steps": []}], "loop": True}, "empty_answer", ""),
    "429 once": (
        {
            "answers": [
                {"fault": {"status": 429, "headers": {"Retry-After": "0"}, "times": 1}, "steps": [{"text": "ok"}]}
            ]
        },
        "",
        "ok",
    ),
    "500 once": ({"answers": [{"fault": {"status": 500, "times": 1}, "steps": [{"text": "ok"}]}]}, "", "ok"),
    "arguments that are no JSON": (
        {"answers": [{"steps": call(0, "a", "calculate", '{"expression": ')}, {"steps": [{"text": "ok"}]}]},
        "",
        "ok",
    ),
    "an unknown tool": (
        {"answers": [{"steps": call(0, "a", "no_such_tool", "{}")}, {"steps": [{"text": "ok"}]}]},
        "",
        "ok",
    ),
}


def test_each_fault_of_the_model_ends_in_one_terminal_event_with_the_partial_text_kept(
    client: FlaskClient, settings: Settings, model_server: ModelServer
) -> None:
    models = [model_server.add(script) for script, _, _ in FAULTS.values()]

    rows = answered(client, settings, *models)

    for (fault, (_, code, text)), row in zip(FAULTS.items(), rows, strict=True):
        last = events_of(client, row["sessionId"], limit=500)[-1]
        assert (fault, row["status"]) == (fault, "error" if code else "done")
        assert (fault, row["errorCode"] or "", row["finalResponse"]) == (fault, code, text)
        assert (fault, last["eventType"], last["content"]) == (fault, row["status"], text)
        if code:
            assert (fault, last["errorCode"]) == (fault, code)
            assert "secret-key" not in last["errorMsg"]
