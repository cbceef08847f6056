"""Routes of sessions: start, look, poll, cancel, delete, list."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from apiflask import APIBlueprint
from flask import Response, request

from app import access
from app.errors import Invalid
from app.sessions import queries as session_queries

from . import ending, openapi, starting
from .access import caller, needs, owner
from .polling import following, held
from .polling.front import require_available
from .polling.hub import Subscriber
from .polling.pages import takes_gzip
from .schemas import (
    OPTIONS,
    EventsOut,
    EventsQuery,
    SessionIn,
    SessionOut,
    SessionsOut,
    SessionsQuery,
    SessionStarted,
    StreamQuery,
    page_json,
)
from .services import services

blueprint = APIBlueprint("sessions", __name__, url_prefix="/api/chat", tag="Sessions")

_Responses = dict[int | str, dict[str, str | dict[str, dict[str, Any]]]]
_START: _Responses = {
    402: {"description": "Nothing is left on the owner's account."},
    429: {"description": "A limit is reached; `code` says which, `Retry-After` when to try again."},
    404: {"description": "The conversation belongs to another owner."},
    409: {"description": "The conversation has a running session and onBusy is reject, or its owner is being erased."},
    422: {"description": "The Idempotency-Key was used with another body."},
}
_PRUNED = "Retention has deleted the events; `finalAnswer` is the place of the answer."
_STREAM: _Responses = {
    200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "It has ended and the client has all of it."},
    410: {"description": _PRUNED},
    429: {"description": "As many polls and streams of the owner are held as may be."},
}
_POLL: _Responses = {
    200: {"description": "A page.", "content": {"application/json": {"schema": openapi.reference(EventsOut)}}},
    304: {"description": "No news since the ETag that came as If-None-Match."},
    410: {"description": _PRUNED},
    429: {"description": "As many polls and streams of the owner are held as may be."},
}


@blueprint.post("/session")
@needs("write", within=("conversation", "agent"))
@blueprint.input(SessionIn, location="json", arg_name="body")
@blueprint.output(SessionStarted, 202, description="Committed; a worker answers it.")
@blueprint.doc(responses=_START)
def start(body: SessionIn) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Start a session

    Commits the session and the user's message, then wakes a worker. Send an `Idempotency-Key` header to make retries
    safe: for 24 h the same key and body give the same session.
    """
    created = starting.start_of(body, idempotency_key=starting.idempotency_key(), request_hash=_hash(body))
    answer = {"sessionId": created.session_id, "conversationId": created.conversation_id, "status": "running"}
    if secret := services().settings.chat_secret:
        answer["token"] = access.issue_for_session(secret, caller(), created.session_id)
    return answer, 202, {"Location": f"{request.script_root}/api/chat/session/{created.session_id}"}


def _hash(body: SessionIn) -> str:
    # Without the options that are not given: a repeated request is the same for an older process.
    said = {name: value for name, value in body.model_dump().items() if name not in OPTIONS or value is not None}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@blueprint.get("/session/<session_id>")
@needs("read")
@blueprint.output(SessionOut)
@blueprint.doc(summary="One session")
def show(session_id: str) -> dict[str, Any]:
    return session_queries.get(owner(), session_id)


@blueprint.get("/session/<session_id>/events")
@needs("read")
@blueprint.input(EventsQuery, location="query", arg_name="query")
@blueprint.doc(responses=_POLL)
def poll(session_id: str, query: EventsQuery) -> Response:
    """Events after a seq

    Pages by `after`: take `nextAfter` of each answer as the next `after`; ask again at once while `hasMore`,
    else after `pollAfterMs`; stop at a `status` other than `running`. `wait` holds the request until there is news.
    """
    require_available(request.environ)
    subscriber = _subscriber(owner(), session_id, query.after, query.limit)
    here = services()
    return held.poll(
        here.reader,
        here.hub,
        subscriber,
        wait_s=query.wait,
        if_none_match=request.if_none_match,
        gzip=takes_gzip(request.headers.get("Accept-Encoding", "")),
    )


@blueprint.get("/session/<session_id>/stream")
@needs("read")
@blueprint.input(StreamQuery, location="query", arg_name="query")
@blueprint.doc(responses=_STREAM)
def stream(session_id: str, query: StreamQuery) -> Response:
    """Events as server-sent events

    `id` is the seq and `data` the event; resumes after `Last-Event-ID`; ends after the terminal event. A client that
    asks again after that is told `204`, at which an `EventSource` stops.
    """
    subscriber = _subscriber(owner(), session_id, _last_event_id(query.after), following.STREAM_PAGE)
    return following.stream(services().reader, services().hub, subscriber)


def _last_event_id(default: int) -> int:
    raw = request.headers.get("Last-Event-ID", "")
    if not raw:
        return default
    if not raw.isascii() or not raw.isdecimal() or len(raw) > 10:
        raise Invalid("Last-Event-ID must be a seq", parameter="Last-Event-ID")
    return int(raw)


def _subscriber(me: str, session_id: str, after: int, limit: int) -> Subscriber:
    return Subscriber(me, session_id, after, limit, request.environ.get("gunicorn.socket"))


@blueprint.post("/session/<session_id>/cancel")
@needs("cancel")
@blueprint.output(SessionOut)
def cancel(session_id: str) -> dict[str, Any]:
    """End a session

    Commits the end, keeps the partial answer and stops the model call. Does nothing to a session that has ended.
    """
    ending.cancel(services(), owner(), session_id)
    return session_queries.get(owner(), session_id)


@blueprint.delete("/session/<session_id>")
@needs("write")
@blueprint.output({}, 204)
@blueprint.doc(summary="Delete a session with its events and messages")
def delete(session_id: str) -> str:
    ending.delete(services(), owner(), session_id)
    return ""


@blueprint.get("/sessions")
@needs("read", within=("session", "conversation", "agent"))
@blueprint.input(SessionsQuery, location="query", arg_name="query")
@blueprint.output(SessionsOut)
@blueprint.doc(summary="Recent sessions, newest first")
def recent(query: SessionsQuery) -> dict[str, Any]:
    return page_json("sessions", session_queries.list_recent(owner(), within=caller(), **query.model_dump()))
