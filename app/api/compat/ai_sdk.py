"""Vercel's AI SDK: `useChat` with its own transport or `WorkflowChatTransport`. Its chat is a conversation.

Closing the connection cancels nothing here: `stop()` of a page only closes it, and a page that is left does so too.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from apiflask import APIBlueprint
from flask import Response, request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.conversations import messages as stored_messages
from app.conversations import queries as conversation_queries
from app.errors import Invalid, NotFound
from app.events import log
from app.sessions import queries as session_queries
from app.sessions.options import Options, Said

from .. import ending, starting
from ..access import needs, owner, require_conversation, require_right, require_session
from ..polling import following
from ..polling.hub import Subscriber
from ..polling.pages import encode
from ..schemas import UUID, encodable
from ..services import services
from .openai_input import Unsupported, conversation_of
from .ui_chunks import UiChunks, ui_message

blueprint = APIBlueprint("ai_sdk", __name__, url_prefix="/api/ai/chat", enable_openapi=False)

#: Ids of chats that are no UUIDs, within their owner's.
_CHATS = uuid.UUID("5f0cb8a5-3d5c-4b57-8a8f-6f2f9b1d2c11")
#: Header of clients that know all chunks of this version of the SDK.
_VERSION = "X-Backchat-Ui"
_CAN_RESET = 7
#: Of a stored chat so many of the newest messages are given.
_MOST_MESSAGES = 1000
_PAGE = 200
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
#: Parts of an earlier answer that are not text: the model is told what was said.
_NOT_SAID = re.compile(r"reasoning|step-start|source-.*|tool-.*|dynamic-tool|data-.*")


class ChatIn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: Annotated[str, AfterValidator(encodable)] | None = Field(None, min_length=1, max_length=200)
    messages: list[dict[str, Any]] | None = None
    message: dict[str, Any] | None = None
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = Field(None, alias="messageId", max_length=200)
    agent_id: int = Field(1, alias="agentId", ge=1, le=2**31 - 1)
    model: str | None = Field(None, min_length=1, max_length=128)


class StreamQuery(BaseModel):
    start_index: int = Field(0, alias="startIndex", ge=-(2**31), le=2**31 - 1)


@blueprint.post("")
@needs("write", within=("conversation", "agent"))
@blueprint.input(ChatIn, location="json", arg_name="body")
def send(body: ChatIn) -> Response:
    require_right("read")
    given = body.messages or ([body.message] if body.message else [])
    said = [_role_and_text(each, index) for index, each in enumerate(given)]
    message, before, instructions = conversation_of(said, "messages")
    conversation_id = None if body.id is None else _conversation(body.id)
    created = starting.start(
        message,
        agent_id=body.agent_id,
        model=body.model,
        conversation_id=conversation_id,
        options=Options(_history(conversation_id, before), instructions),
        idempotency_key=starting.idempotency_key() or _key(body, conversation_id, given),
        request_hash=hashlib.sha256(json.dumps([body.agent_id, body.model, message]).encode()).hexdigest(),
    )
    return _stream(created.session_id, 0)


@blueprint.get("/<chat_id>/stream")
@needs("read", within=("session", "conversation", "agent"))
@blueprint.input(StreamQuery, location="query", arg_name="query")
def resume(chat_id: str, query: StreamQuery) -> Response:
    """The stream of a session, or of the one that runs in a chat; 204: none does."""
    session_id = _session(chat_id) or _running(chat_id)
    return Response(status=204) if session_id is None else _stream(session_id, query.start_index)


@blueprint.post("/<chat_id>/stop")
@needs("cancel", within=("session", "conversation", "agent"))
def stop(chat_id: str) -> Response:
    """Cancel a session, or what runs and waits in a chat."""
    if session_id := _session(chat_id):
        ending.cancel(services(), owner(), session_id)
        return Response(status=204)
    while session_id := _running(chat_id):
        ending.cancel(services(), owner(), session_id)
    return Response(status=204)


@blueprint.get("/<chat_id>/messages")
@needs("read", within=("conversation", "agent"))
def messages(chat_id: str) -> Response:
    """What was said in a chat, for `useChat({messages})`: without the answer that is on its way."""
    conversation_id = _conversation(chat_id)
    require_conversation(conversation_id)
    newest_first: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(newest_first) < _MOST_MESSAGES:
        page = stored_messages.of_conversation(owner(), conversation_id, limit=_PAGE, cursor=cursor, order="desc")
        newest_first += page.rows
        cursor = page.next_cursor
        if cursor is None:
            break
    return Response(encode([ui_message(each) for each in reversed(newest_first)]), mimetype="application/json")


def _role_and_text(message: dict[str, Any], index: int) -> tuple[str, str]:
    role, parts, place = message.get("role"), message.get("parts"), f"messages[{index}]"
    if role not in ("system", "user", "assistant") or not isinstance(parts, list):
        raise Invalid("a message has a role and parts", parameter=place)
    texts = []
    for number, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif role != "assistant" or not isinstance(kind, str) or not _NOT_SAID.fullmatch(kind):
            raise Unsupported(f"only text can be taken, not {kind!r}", parameter=f"{place}.parts[{number}]")
    return str(role), "".join(texts)


def _conversation(chat_id: str) -> str:
    """The conversation of a chat: a UUID as it is, another id as one of its owner's."""
    if UUID.fullmatch(chat_id):
        return chat_id.lower()
    return str(uuid.uuid5(_CHATS, f"{owner()}\n{chat_id}"))


def _history(conversation_id: str | None, before: list[Said]) -> tuple[Said, ...] | None:
    """What the client says was said before; None: as much as the conversation has itself, or it sent only the new."""
    if conversation_id is None:
        return tuple(before)
    if not before:
        return None
    try:
        kept = conversation_queries.get(owner(), conversation_id)["messageCount"]
    except NotFound:
        kept = 0
    # After an edit or a regeneration the client shows another conversation than the one that is stored.
    return None if kept == len(before) else tuple(before)


def _key(body: ChatIn, conversation_id: str | None, given: list[dict[str, Any]]) -> str | None:
    """A repeated request is the same session; one that answers a message anew is another."""
    name = given[-1].get("id") if given else None
    if body.trigger != "submit-message" or body.message_id is not None or conversation_id is None:
        return None
    return f"chat:{conversation_id}:{name}" if isinstance(name, str) and _KEY.fullmatch(name) else None


def _session(name: str) -> str | None:
    """The session of this id; None: there is none."""
    try:
        session_queries.place(owner(), name)
        require_session(name)
    except NotFound:
        return None
    return name


def _running(chat_id: str) -> str | None:
    """The session that runs in a chat."""
    conversation_id = _conversation(chat_id)
    try:
        require_conversation(conversation_id)
        running: str | None = conversation_queries.get(owner(), conversation_id)["runningSessionId"]
        if running is not None:
            require_session(running)
    except NotFound:
        return None
    return running


def _stream(session_id: str, start_index: int) -> Response:
    here, me = services(), owner()
    version = request.headers.get(_VERSION, "")
    can_reset = version.isascii() and version.isdecimal() and int(version[:9]) >= _CAN_RESET
    headers = {"X-Vercel-Ai-Ui-Message-Stream": "v1", "X-Workflow-Run-Id": session_id, "X-Backchat-Session": session_id}
    if start_index < 0:
        last = _last_index(session_id, can_reset)
        headers["X-Workflow-Stream-Tail-Index"] = str(last)
        start_index = max(0, last + 1 + start_index)
    chunks = UiChunks(session_id, can_reset=can_reset, above=start_index)
    connection = request.environ.get("gunicorn.socket")
    subscriber = Subscriber(me, session_id, 0, following.STREAM_PAGE, connection)
    response = following.stream(here.reader, here.hub, subscriber, chunks)
    response.headers.extend(headers)
    return response


def _last_index(session_id: str, can_reset: bool) -> int:
    """The index of the newest chunk."""
    me = owner()
    chunks = UiChunks(session_id, can_reset=can_reset, above=2**31)
    page = log.read(me, session_id, 0, following.STREAM_PAGE)
    chunks.take(page.events)
    while page.has_more:
        page = log.read(me, session_id, page.next_after, following.STREAM_PAGE)
        chunks.take(page.events)
    return chunks.count - 1


def error_of_problem(problem: Mapping[str, Any]) -> dict[str, Any]:
    """What `useChat` has as the message of its error."""
    return {"code": problem["code"], "message": problem["detail"]}
