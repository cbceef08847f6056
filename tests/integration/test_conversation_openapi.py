"""The OpenAPI document shows conversations, messages, search and history, with examples that hold."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import BaseModel

from app.api import agent_schemas, conversation_schemas

OPERATIONS = [
    ("get", "/api/conversations"),
    ("get", "/api/conversations/search"),
    ("get", "/api/conversations/{conversation_id}"),
    ("patch", "/api/conversations/{conversation_id}"),
    ("delete", "/api/conversations/{conversation_id}"),
    ("get", "/api/conversations/{conversation_id}/messages"),
    ("delete", "/api/conversations/{conversation_id}/messages"),
    ("get", "/api/sessions/{session_id}/messages"),
    ("get", "/api/agents"),
    ("get", "/api/agents/{agent_id}"),
    ("get", "/api/agents/{agent_id}/conversation"),
    ("get", "/api/agents/{agent_id}/conversation/summary"),
    ("get", "/api/agents/{agent_id}/conversation/{event_id}"),
    ("delete", "/api/agents/{agent_id}/conversation"),
]


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_every_operation_is_described_with_an_example(client: FlaskClient) -> None:
    paths: Any = client.get("/openapi.json").json["paths"]  # type: ignore[index]

    for method, path in OPERATIONS:
        operation = paths[path][method]
        assert operation["summary"]
        if method == "delete":
            assert "204" in operation["responses"]
            continue
        assert operation["responses"]["200"]["content"]["application/json"]["example"], path
    for path in ("/api/chat/session/{session_id}/events", "/api/chat/session/{session_id}/stream"):
        assert "finalAnswer" in paths[path]["get"]["responses"]["410"]["description"]


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (conversation_schemas.ConversationOut, conversation_schemas.CONVERSATION),
        (conversation_schemas.ConversationsOut, conversation_schemas.CONVERSATIONS),
        (conversation_schemas.MessagesOut, conversation_schemas.MESSAGES),
        (conversation_schemas.SearchOut, conversation_schemas.MATCHES),
        (agent_schemas.AgentOut, agent_schemas.AGENT),
        (agent_schemas.HistoryEventOut, agent_schemas.EVENT),
        (agent_schemas.HistoryOut, agent_schemas.HISTORY),
        (agent_schemas.SummaryOut, agent_schemas.SUMMARY),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_an_example_is_what_the_route_answers(model: type[BaseModel], example: dict[str, Any]) -> None:
    shown = model.model_validate(example)

    assert shown.model_dump(mode="json", by_alias=True) == example
    assert shown.model_extra == {}
