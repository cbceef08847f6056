"""Routes of sessions: start, look, poll, cancel, delete, list."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any, Protocol

from apiflask import APIBlueprint
from flask import Response, request, stream_with_context

from .. import event_log, session_list, sessions
from ..errors import Invalid
from ..event_log import Page
from ..events import Error
from . import live, openapi
from .access import owner
from .context import context
from .schemas import (
    EventsOut,
    EventsQuery,
    SessionIn,
    SessionOut,
    SessionsOut,
    SessionsQuery,
    SessionStarted,
    StreamQuery,
)

blueprint = APIBlueprint("sessions", __name__, url_prefix="/api/chat", tag="Sessions")

#: Advice for the next poll, in milliseconds: by default, while text streams, and when nothing has moved for a while.
POLL_MS = 1500
POLL_STREAMING_MS = 1000
POLL_STILL_MS = 3000
STILL_S = 20.0
#: Events that a stream reads at once.
STREAM_PAGE = 500

_KEY_CHARACTERS = 255

_Responses = dict[int | str, dict[str, str | dict[str, dict[str, Any]]]]
_START: _Responses = {
    409: {"description": "The conversation has a running session and onBusy is reject."},
    422: {"description": "The Idempotency-Key was used with another body."},
}
_STREAM: _Responses = {
    200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "It has ended and the client has all of it."},
}
_POLL: _Responses = {
    200: {"description": "A page.", "content": {"application/json": {"schema": openapi.reference(EventsOut)}}},
    304: {"description": "No news since the ETag that came as If-None-Match."},
}


@blueprint.post("/session")
@blueprint.input(SessionIn, location="json", arg_name="body")
@blueprint.output(SessionStarted, 202, description="Committed; a worker answers it.")
@blueprint.doc(responses=_START)
def start(body: SessionIn) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Start a session

    Commits the session and the user's message, then wakes a worker. Send an `Idempotency-Key` header to make retries
    safe: for 24 h the same key and body give the same session.
    """
    here = context()
    agent = here.agents.get(body.agent_id)
    created = sessions.create(
        sessions.NewSession(
            owner=owner(),
            message=body.message,
            agent_id=agent.id,
            model=body.model or agent.model or here.settings.chat_model,
            conversation_id=body.conversation_id,
            on_busy=body.on_busy,
            idempotency_key=_idempotency_key(),
            request_hash=_hash(body),
        )
    )
    for ended in created.interrupted:
        here.doorbell.ended(ended)
    if created.new:
        here.doorbell.ring(created.session_id)
    answer = {"sessionId": created.session_id, "conversationId": created.conversation_id, "status": "running"}
    return answer, 202, {"Location": f"/api/chat/session/{created.session_id}"}


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= _KEY_CHARACTERS or not key.isascii() or not key.isprintable():
        raise Invalid(f"Idempotency-Key must be 1 to {_KEY_CHARACTERS} printable ASCII characters")
    return key


def _hash(body: SessionIn) -> str:
    return hashlib.sha256(json.dumps(body.model_dump(), sort_keys=True).encode()).hexdigest()


@blueprint.get("/session/<session_id>")
@blueprint.output(SessionOut)
@blueprint.doc(summary="One session")
def show(session_id: str) -> dict[str, Any]:
    return session_list.get(owner(), session_id)


@blueprint.get("/session/<session_id>/events")
@blueprint.input(EventsQuery, location="query", arg_name="query")
@blueprint.doc(responses=_POLL)
def poll(session_id: str, query: EventsQuery) -> Response:
    """Events after a seq

    Pages by `after`: take `nextAfter` of each answer as the next `after`; ask again at once while `hasMore`,
    else after `pollAfterMs`; stop at a `status` other than `running`. `wait` holds the request until there is news.
    """
    read = _reader(session_id, query.limit)
    page = read(query.after)
    if query.wait and not _is_news(page):
        page = _wait(session_id, read, query.after, query.wait) or page
    return _answer(page)


@blueprint.get("/session/<session_id>/stream")
@blueprint.input(StreamQuery, location="query", arg_name="query")
@blueprint.doc(responses=_STREAM)
def stream(session_id: str, query: StreamQuery) -> Response:
    """Events as server-sent events

    `id` is the seq and `data` the event; resumes after `Last-Event-ID`; ends after the terminal event. A client that
    asks again after that is told `204`, at which an `EventSource` stops.
    """
    after = _last_event_id(query.after)
    read = _reader(session_id, STREAM_PAGE)
    first = read(after)
    if first.status != "running" and not first.events:
        return Response(status=204)

    def more(after: int) -> Page | None:
        return _wait(session_id, read, after, live.KEEP_ALIVE_S)

    response = Response(stream_with_context(live.stream(first, more)), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    # nginx gathers a response before it passes it on, unless it is told not to.
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _last_event_id(default: int) -> int:
    raw = request.headers.get("Last-Event-ID", "")
    if not raw:
        return default
    if not raw.isascii() or not raw.isdecimal() or len(raw) > 10:
        raise Invalid("Last-Event-ID must be a seq", parameter="Last-Event-ID")
    return int(raw)


class _Read(Protocol):
    def __call__(self, after: int, news: bool = False) -> Page: ...


def _reader(session_id: str, limit: int) -> _Read:
    """Reads pages of this session for the caller of this request; the database only when there may be news."""
    me = owner()
    here = context()

    def read(after: int, news: bool = False) -> Page:
        head = None if news else here.heads.get(session_id)
        if head is not None and head.owner == me and head.seq <= after and head.status == "running":
            # Nothing new: this has cost one look at Redis.
            return Page(session_id, "running", [], after, has_more=False, moved_at=head.moved_at)
        key = (me, session_id, after, limit)
        return here.news.shared(key, lambda: event_log.read_after(me, session_id, after, limit))

    return read


def _is_news(page: Page) -> bool:
    return bool(page.events) or page.status != "running"


def _wait(session_id: str, read: _Read, after: int, timeout_s: float) -> Page | None:
    """The next page with news, or None when *timeout_s* has passed."""

    def ready(news: bool) -> Page | None:
        page = read(after, news)
        return page if _is_news(page) else None

    return context().news.wait(session_id, after, ready, timeout_s)


def _answer(page: Page) -> Response:
    # Raw: validating a page against its schema would cost more than reading it.
    etag = f"{page.status}-{page.next_after}-{len(page.events)}-{page.has_more:d}"
    if request.if_none_match.contains_weak(etag):
        response = Response(status=304)
    else:
        body = {
            "sessionId": page.session_id,
            "status": page.status,
            "events": page.events,
            "nextAfter": page.next_after,
            "hasMore": page.has_more,
            "pollAfterMs": poll_after_ms(page, time.time()),
        }
        response = Response(live.encode(body), mimetype="application/json")
    response.set_etag(etag, weak=True)
    response.headers["Cache-Control"] = "no-cache"
    return response


def poll_after_ms(page: Page, now: float) -> int:
    """Advice for the next poll: soon while text streams, later while nothing moves."""
    if page.has_more:
        return 0
    if page.events and page.events[-1]["eventType"] in ("delta", "thinking"):
        return POLL_STREAMING_MS
    still_s = now - page.moved_at
    return POLL_MS if still_s < STILL_S else POLL_STILL_MS


@blueprint.post("/session/<session_id>/cancel")
@blueprint.output(SessionOut)
def cancel(session_id: str) -> dict[str, Any]:
    """End a session

    Commits the end, keeps the partial answer and stops the model call. Does nothing to a session that has ended.
    """
    me = owner()
    ended = sessions.end(session_id, Error("cancelled", "cancelled by the user"), owner=me)
    context().doorbell.ended(ended)
    return session_list.get(me, session_id)


@blueprint.delete("/session/<session_id>")
@blueprint.output({}, 204)
@blueprint.doc(summary="Delete a session with its events and messages")
def delete(session_id: str) -> str:
    context().doorbell.deleted(sessions.delete(owner(), session_id))
    return ""


@blueprint.get("/sessions")
@blueprint.input(SessionsQuery, location="query", arg_name="query")
@blueprint.output(SessionsOut)
@blueprint.doc(summary="Recent sessions, newest first")
def recent(query: SessionsQuery) -> dict[str, Any]:
    rows, next_cursor = session_list.list_recent(owner(), **query.model_dump())
    return {"sessions": rows, "nextCursor": next_cursor}
