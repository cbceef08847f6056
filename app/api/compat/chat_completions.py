"""OpenAI's chat completions and models, for chat applications and frameworks.

Each call is a conversation of its own, deleted a day later: the client sends all that was said before. With
`X-Backchat-Conversation` it is a turn of that conversation, and only the last message counts.
"""

from __future__ import annotations

import hashlib
import time
from functools import partial
from typing import Annotated, Any

from apiflask import APIBlueprint
from flask import Response, request
from pydantic import AfterValidator, Field

from app.errors import BackchatError, Invalid, UnknownAgent, UnknownModel
from app.events.fold import Fold
from app.events.log import EventPage
from app.sessions.options import Options

from .. import ending, problems, starting
from ..access import caller, needs, owner, require_right
from ..polling import following
from ..polling.hub import Subscriber
from ..polling.pages import Answer, encode
from ..schemas import UUID, encodable
from ..services import services
from .chat_chunks import ChatChunks, failure, finish_reason_of, usage_json
from .openai_input import (
    AGENT,
    ModelNotFound,
    OpenAIParameters,
    Unsupported,
    agent_and_model,
    conversation_of,
    error_of_problem,
    refuse,
    text_of,
)

blueprint = APIBlueprint("chat_completions", __name__, url_prefix="/v1", enable_openapi=False)

_ROLES = frozenset({"system", "developer", "user", "assistant"})
#: A status at which the official SDKs would send the request again, and start another run.
NO_RETRY = ("x-should-retry", "false")
_FAILED = "502 BAD GATEWAY"


Stop = Annotated[str, AfterValidator(encodable), Field(min_length=1, max_length=1000)]


class ChatIn(OpenAIParameters):
    """A body; what is refused is looked at by name."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    stop: Stop | list[Stop] | None = None


@blueprint.get("/models")
@needs("read", within=("session", "conversation", "agent"))
def models() -> dict[str, Any]:
    return {"object": "list", "data": _models()}


@blueprint.get("/models/<model>")
@needs("read", within=("session", "conversation", "agent"))
def model(model: str) -> dict[str, Any]:
    for each in _models():
        if each["id"] == model:
            return each
    raise ModelNotFound(f"the model {model!r} does not exist")


def _models() -> list[dict[str, Any]]:
    within = caller().agents
    return [
        {"id": f"{AGENT}{agent.id}", "object": "model", "created": 0, "owned_by": "backchat", "name": agent.name}
        for agent in services().agents
        if within is None or agent.id in within
    ]


@blueprint.post("/chat/completions")
@needs("write", within=("conversation", "agent"))
@blueprint.input(ChatIn, location="json", arg_name="body")
def complete(body: ChatIn) -> Response:
    here, me = services(), owner()
    require_right("read")
    _refuse_what_runs_here(request.get_json())
    session_id = _start(body)
    subscriber = Subscriber(me, session_id, 0, following.STREAM_PAGE, request.environ.get("gunicorn.socket"))
    stays = request.headers.get("X-Backchat-On-Disconnect", "").lower() == "continue"
    # Closing the connection is how every chat application stops an answer.
    on_gone = None if stays or "cancel" not in caller().rights else partial(ending.cancel, here, me, session_id)
    head = {"id": f"chatcmpl-{session_id.replace('-', '')}", "created": int(time.time()), "model": body.model}
    if body.stream:
        with_usage = bool((body.stream_options or {}).get("include_usage"))
        chunks = ChatChunks(head, with_usage=with_usage)
        response = following.stream(here.reader, here.hub, subscriber, chunks, on_gone=on_gone)
    else:
        whole = _Whole(head)
        response = following.whole(here.reader, here.hub, subscriber, whole.take, whole.answer, on_gone=on_gone)
    response.headers["X-Backchat-Session"] = session_id
    return response


def _refuse_what_runs_here(body: dict[str, Any]) -> None:
    refuse(body, ("tools", "functions"), "tools run on the server, as the agent has them")
    refuse(body, ("logprobs", "top_logprobs", "audio", "prediction", "web_search_options"), "it is not supported")
    choice = body.get("tool_choice")
    if choice not in (None, "none", "auto"):
        raise Unsupported("tool_choice can only be none or auto: tools run on the server", parameter="tool_choice")
    if body.get("n") not in (None, 1):
        raise Unsupported("n can only be 1", parameter="n")
    if set(body.get("modalities") or ["text"]) != {"text"}:
        raise Unsupported("only text can be answered", parameter="modalities")
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type", "text") != "text":
        raise Unsupported("only text can be answered", parameter="response_format")


def _start(body: ChatIn) -> str:
    agent_id, model = agent_and_model(body.model)
    message, before, instructions = conversation_of(
        (_role_and_text(each, index) for index, each in enumerate(body.messages)), "messages"
    )
    named = request.headers.get("X-Backchat-Conversation")
    if named is not None and not UUID.fullmatch(named):
        raise Invalid("X-Backchat-Conversation must be a UUID", parameter="X-Backchat-Conversation")
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    parameters = body.parameters(max_tokens=body.max_completion_tokens or body.max_tokens, stop=stop or None)
    try:
        created = starting.start(
            message,
            agent_id=agent_id,
            model=model,
            conversation_id=None if named is None else named.lower(),
            ephemeral=named is None,
            options=Options(None if named else tuple(before), instructions, parameters),
            idempotency_key=starting.idempotency_key(),
            request_hash=hashlib.sha256(request.get_data()).hexdigest(),
        )
    except (UnknownAgent, UnknownModel) as error:
        raise ModelNotFound(error.detail) from error
    return created.session_id


def _role_and_text(message: dict[str, Any], index: int) -> tuple[str, str]:
    role, place = message.get("role"), f"messages[{index}]"
    if role not in _ROLES:
        raise Unsupported(f"a message of the role {role!r} can't be taken: tools run on the server", parameter=place)
    if message.get("tool_calls") or message.get("function_call"):
        raise Unsupported("calls of the client's tools can't be taken: tools run on the server", parameter=place)
    if role == "assistant" and message.get("content") is None:
        return role, ""
    return role, text_of(message.get("content"), f"{place}.content")


class _Whole:
    """The answer to a call without `stream`."""

    def __init__(self, head: dict[str, Any]) -> None:
        self._head = head
        self._fold = Fold()

    def take(self, page: EventPage) -> None:
        for event in page.events:
            self._fold.add(event)

    def answer(self, error: BackchatError | None) -> Answer:
        headers = [("Content-Type", "application/json")]
        if error is not None:
            status = problems.status_of(error)
            problem = problems.problem_body(status, error.code, error.detail or error.code)
            return Answer(f"{status} ERROR", [*headers, NO_RETRY], encode(error_of_problem(problem)))
        end = self._fold.end or {}
        if end["type"] == "error":
            body = {"error": failure(end)}
            return Answer(_FAILED, [*headers, NO_RETRY], encode(body))
        thoughts = "".join(part.text for part in self._fold.parts if part.kind == "reasoning")
        message = {"role": "assistant", "content": end["content"], "refusal": None}
        message |= {"reasoning_content": thoughts} if thoughts else {}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason_of(end), "logprobs": None}
        body = {"object": "chat.completion"} | self._head | {"choices": [choice], "usage": usage_json(end["usageJson"])}
        return Answer("200 OK", headers, encode(body))
