"""OpenAI's responses: a response is a session, and what it streams is numbered from 0 for good."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Annotated, Any

from apiflask import APIBlueprint
from flask import Response, request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.errors import BackchatError, Gone, Invalid, UnknownAgent, UnknownModel
from app.events import log
from app.parameters import ReasoningEffort
from app.sessions import earlier
from app.sessions import options as session_options
from app.sessions import queries as session_queries
from app.sessions.options import Options, Said

from .. import ending, problems, starting
from ..access import caller, needs, owner, require_right, require_session
from ..polling import following
from ..polling.hub import Subscriber
from ..polling.pages import Answer, encode
from ..schemas import Metadata, encodable
from ..services import services
from .openai_input import (
    ModelNotFound,
    OpenAIParameters,
    Unsupported,
    agent_and_model,
    conversation_of,
    error_of_problem,
    refuse,
    text_of,
)
from .response_events import ResponseEvents
from .response_objects import base_of, pruned, response_id, uuid_of

blueprint = APIBlueprint("responses", __name__, url_prefix="/v1/responses", enable_openapi=False)

_ROLES = frozenset({"system", "developer", "user", "assistant"})
_PAGE = 1000


class _ReasoningIn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    effort: ReasoningEffort | None = None


class ResponseIn(OpenAIParameters):
    """A body; what is refused is looked at by name."""

    input: str | list[dict[str, Any]]
    instructions: Annotated[str, AfterValidator(encodable)] | None = None
    background: bool | None = None
    stream: bool | None = None
    store: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    reasoning: _ReasoningIn | None = None
    previous_response_id: str | None = Field(None, max_length=64)
    conversation: str | dict[str, Any] | None = None
    metadata: Metadata | None = None


class RetrieveQuery(BaseModel):
    stream: bool = False
    starting_after: int | None = Field(None, ge=0, le=2**31 - 1)


@blueprint.post("")
@needs("write", within=("conversation", "agent"))
@blueprint.input(ResponseIn, location="json", arg_name="body")
def create(body: ResponseIn) -> Response:
    require_right("read")
    _refuse(request.get_json(), body)
    session_id = _start(body)
    if body.background:
        on_gone = None
    else:
        on_gone = partial(ending.cancel, services(), owner(), session_id) if "cancel" in caller().rights else None
    subscriber, events = _subscriber(session_id), ResponseEvents(_base(session_id))
    if body.stream:
        response = following.stream(services().reader, services().hub, subscriber, events, on_gone=on_gone)
    elif body.background:
        response = _json(_object(session_id))
    else:
        response = following.whole(
            services().reader,
            services().hub,
            subscriber,
            lambda page: events.take(page.events),
            partial(_whole, events),
            on_gone=on_gone,
        )
    response.headers["X-Backchat-Session"] = session_id
    return response


@blueprint.get("/<response:session_id>")
@needs("read")
@blueprint.input(RetrieveQuery, location="query", arg_name="query")
def retrieve(session_id: str, query: RetrieveQuery) -> Response:
    if not query.stream:
        return _json(_object(session_id))
    events = ResponseEvents(_base(session_id), above=query.starting_after)
    return following.stream(services().reader, services().hub, _subscriber(session_id), events)


@blueprint.post("/<response:session_id>/cancel")
@needs("cancel")
def cancel(session_id: str) -> Response:
    ending.cancel(services(), owner(), session_id)
    return _json(_object(session_id))


@blueprint.delete("/<response:session_id>")
@needs("write")
def delete(session_id: str) -> dict[str, Any]:
    ending.delete(services(), owner(), session_id)
    return {"id": response_id(session_id), "object": "response", "deleted": True}


@blueprint.get("/<response:session_id>/input_items")
@needs("read")
def input_items(session_id: str) -> dict[str, Any]:
    row = session_queries.get(owner(), session_id)
    item = {
        "id": f"msg_{session_id.replace('-', '')}",
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": row["userMessage"]}],
    }
    return {"object": "list", "data": [item], "first_id": item["id"], "last_id": item["id"], "has_more": False}


def _refuse(given: dict[str, Any], body: ResponseIn) -> None:
    refuse(given, ("tools",), "tools run on the server, as the agent has them")
    refuse(given, ("prompt", "top_logprobs", "context_management"), "it is not supported")
    if given.get("tool_choice") not in (None, "none", "auto"):
        raise Unsupported("tool_choice can only be none or auto: tools run on the server", parameter="tool_choice")
    wanted = given.get("text")
    kind = wanted.get("format", {}) if isinstance(wanted, dict) else {}
    if isinstance(kind, dict) and kind.get("type", "text") != "text":
        raise Unsupported("only text can be answered", parameter="text.format")
    if body.store is False and body.background:
        raise Unsupported("what runs in the background is stored", parameter="store")
    if body.previous_response_id and body.conversation:
        raise Invalid("give previous_response_id or conversation, not both", parameter="previous_response_id")


def _start(body: ResponseIn) -> str:
    agent_id, model = agent_and_model(body.model)
    message, before, system = _said(body)
    conversation_id: str | None = None
    messages: tuple[Said, ...] | None = tuple(before)
    if body.previous_response_id or body.conversation:
        if before:
            raise Unsupported("with a conversation only the new message can be given", parameter="input")
        conversation_id, messages = _place(body)
    instructions = "\n\n".join(each for each in (body.instructions, system) if each)
    effort = None if body.reasoning is None else body.reasoning.effort
    parameters = body.parameters(max_tokens=body.max_output_tokens, **({"reasoning_effort": effort} if effort else {}))
    try:
        created = starting.start(
            message,
            agent_id=agent_id,
            model=model,
            conversation_id=conversation_id,
            options=Options(messages, instructions, parameters, body.metadata or {}),
            idempotency_key=starting.idempotency_key(),
            request_hash=hashlib.sha256(request.get_data()).hexdigest(),
        )
    except (UnknownAgent, UnknownModel) as error:
        raise ModelNotFound(error.detail) from error
    return created.session_id


def _said(body: ResponseIn) -> tuple[str, list[Said], str]:
    if isinstance(body.input, str):
        return conversation_of([("user", body.input)], "input")
    said = []
    for index, item in enumerate(body.input):
        kind, role, place = item.get("type", "message"), item.get("role"), f"input[{index}]"
        if kind == "reasoning":
            continue  # what a client sends back of an earlier response
        if kind != "message" or role not in _ROLES:
            raise Unsupported(f"items of the type {kind!r} can't be taken: tools run on the server", parameter=place)
        said.append((role, text_of(item.get("content"), f"{place}.content")))
    return conversation_of(said, "input")


def _place(body: ResponseIn) -> tuple[str | None, tuple[Said, ...] | None]:
    """The conversation of a response that follows another one, and what was said before if that does not tell it."""
    if body.previous_response_id:
        session_id = uuid_of(body.previous_response_id, "resp_")
        require_session(session_id)
        place = earlier.after(owner(), session_id)
        return place.conversation_id, place.messages
    named = body.conversation.get("id") if isinstance(body.conversation, dict) else body.conversation
    return uuid_of(str(named), "conv_"), None


def _subscriber(session_id: str) -> Subscriber:
    connection = request.environ.get("gunicorn.socket")
    return Subscriber(owner(), session_id, 0, following.STREAM_PAGE, connection)


def _base(session_id: str) -> dict[str, Any]:
    """The object before the answer: of columns that never change."""
    return base_of(session_queries.get(owner(), session_id), session_options.read(session_id))


def _object(session_id: str) -> dict[str, Any]:
    """The response as it is now; its answer stays when its events are gone."""
    me = owner()
    row = session_queries.get(me, session_id)
    events = ResponseEvents(base_of(row, session_options.read(session_id)))
    try:
        # Not the reader's, whose word may be a second old: a response that was seen ended stays so.
        page = log.read(me, session_id, 0, _PAGE)
        events.take(page.events)
        while page.has_more:
            page = log.read(me, session_id, page.next_after, _PAGE)
            events.take(page.events)
    except Gone:
        return pruned(row, events.object(begun=row["startedAt"] is not None))
    return events.object(begun=row["startedAt"] is not None)


def _whole(events: ResponseEvents, error: BackchatError | None) -> Answer:
    headers = [("Content-Type", "application/json")]
    if error is None:
        return Answer("200 OK", headers, encode(events.object()))
    status = problems.status_of(error)
    problem = problems.problem_body(status, error.code, error.detail or error.code)
    return Answer(f"{status} ERROR", [*headers, ("x-should-retry", "false")], encode(error_of_problem(problem)))


def _json(body: dict[str, Any]) -> Response:
    return Response(encode(body), mimetype="application/json")
