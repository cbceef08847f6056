"""Bodies, parameters and examples of conversations and messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from app.conversations.search import MAX_QUERY

from .schemas import Camel, Shown, Text

_CONVERSATION_ID = "2f1c0a3e-8d5b-4c0e-9a67-5b1f0f6a7c21"
_SESSION_ID = "0b9f9a52-7c1b-4f0e-9d0e-3c6f8f6d2f11"


class ConversationOut(Shown):
    """A thread of sessions."""

    conversation_id: str
    title: str
    agent_id: int
    message_count: int
    running_session_id: str | None = Field(description="The session that runs in it now, if any.")
    ephemeral: bool = Field(description="It is deleted a day after it was used last.")
    created_at: str
    updated_at: str = Field(description="When its newest message was stored, or its context cleared.")


class ConversationsQuery(Camel):
    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=64)


class ConversationsOut(Shown):
    conversations: list[ConversationOut]
    next_cursor: str | None
    has_more: bool


class TitleIn(Camel):
    """Another title."""

    title: Annotated[Text, AfterValidator(lambda title: " ".join(title.split()))] = Field(
        max_length=255, examples=["Taxes of 2026"]
    )


class MessagesQuery(Camel):
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, max_length=64, description="`nextCursor` of the page before.")
    offset: int | None = Field(None, ge=0, le=2**31 - 1, description="Messages to pass over; not with `cursor`.")
    order: Literal["asc", "desc"] = Field("asc", description="Oldest first, or newest first.")


class MessageOut(Shown):
    """What the user said, or the assistant answered."""

    id: int
    role: Literal["user", "assistant"]
    content: str
    session_id: str
    metadata: dict[str, Any] = Field(
        description="`timestamp`; of an assistant's also `status`, `model`, `provider`, `tokenUsage` (null when the "
        "provider told nothing), `toolCalls` (large arguments are cut or null), `finishReason` when the model told why "
        "it stopped (`stop`, `length`), and `errorCode` and `errorMessage` when the turn failed or was cancelled."
    )
    parts: list[dict[str, Any]] | None = Field(
        description="Of an assistant's: what the session said and did, in order. `kind` is `reasoning` or `text` with "
        "`text`, or `tool` with `toolCallId`, `toolName`, `toolArgs`, `toolResult`, `toolSuccess` (null: it had no "
        "result) and `durationMs`; `truncated` says that something of it was cut or left out. null: an older version "
        "stored it."
    )
    created_at: str


class MessagesOut(Shown):
    conversation_id: str | None
    messages: list[MessageOut]
    next_cursor: str | None
    has_more: bool
    total: int = Field(description="Messages on all pages.")


class SessionMessagesOut(MessagesOut):
    session_id: str
    session_request_id: str | None = Field(
        description="`X-Request-Id` of the POST that started it; null: an older version did."
    )


class SearchQuery(Camel):
    q: Text = Field(max_length=MAX_QUERY, description="All words must occur; the last may be the beginning of one.")
    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=64)


class MatchOut(Shown):
    """A conversation with its newest match."""

    conversation_id: str
    title: str
    agent_id: int
    message_id: int | None = Field(description="null: the title matched")
    session_id: str | None
    role: Literal["user", "assistant"] | None
    snippet: str
    created_at: str
    updated_at: str


class SearchOut(Shown):
    results: list[MatchOut]
    next_cursor: str | None
    has_more: bool


CONVERSATION = {
    "conversationId": _CONVERSATION_ID,
    "title": "What is 17 % of 2,340?",
    "agentId": 1,
    "messageCount": 2,
    "runningSessionId": None,
    "ephemeral": False,
    "createdAt": "2026-03-01T12:00:00.000Z",
    "updatedAt": "2026-03-01T12:00:03.120Z",
}
CONVERSATIONS = {"conversations": [CONVERSATION], "nextCursor": None, "hasMore": False}
MESSAGES = {
    "conversationId": _CONVERSATION_ID,
    "messages": [
        {
            "id": 41,
            "role": "user",
            "content": "What is 17 % of 2,340?",
            "sessionId": _SESSION_ID,
            "metadata": {"timestamp": "2026-03-01T12:00:00.000Z"},
            "parts": None,
            "createdAt": "2026-03-01T12:00:00.000Z",
        },
        {
            "id": 42,
            "role": "assistant",
            "content": "17 % of 2,340 is 397.80.",
            "sessionId": _SESSION_ID,
            "metadata": {
                "status": "done",
                "model": "gpt-5-mini",
                "provider": "openai",
                "attempt": 1,
                "tokenUsage": {"input": 210, "output": 31, "cacheRead": 128, "cacheWrite": 0, "total": 241},
                "toolCalls": [
                    {
                        "toolCallId": "call_1",
                        "toolName": "calculate",
                        "args": {"expression": "2340 * 0.17"},
                        "isError": False,
                    }
                ],
                "timestamp": "2026-03-01T12:00:03.120Z",
            },
            "parts": [
                {
                    "kind": "tool",
                    "toolCallId": "call_1",
                    "toolName": "calculate",
                    "toolArgs": {"expression": "2340 * 0.17"},
                    "toolResult": "397.8",
                    "toolSuccess": True,
                    "durationMs": 1,
                },
                {"kind": "text", "text": "17 % of 2,340 is 397.80."},
            ],
            "createdAt": "2026-03-01T12:00:03.120Z",
        },
    ],
    "nextCursor": None,
    "hasMore": False,
    "total": 2,
}
SESSION_MESSAGES = MESSAGES | {"sessionId": _SESSION_ID, "sessionRequestId": "8c1d6f0e5b2a4937"}
MATCHES = {
    "results": [
        {
            "conversationId": _CONVERSATION_ID,
            "title": "What is 17 % of 2,340?",
            "agentId": 1,
            "messageId": 42,
            "sessionId": _SESSION_ID,
            "role": "assistant",
            "snippet": "17 % of 2,340 is 397.80.",
            "createdAt": "2026-03-01T12:00:03.120Z",
            "updatedAt": "2026-03-01T12:00:03.120Z",
        }
    ],
    "nextCursor": None,
    "hasMore": False,
}
