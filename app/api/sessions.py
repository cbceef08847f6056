"""Routes of sessions: start, look, poll, cancel, delete, list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from apiflask import APIBlueprint
from flask import Response, request

from app import db, sessions
from app.events import Error, log
from app.events.log import Page
from app.sessions import queries as session_queries
from app.sessions import removal

from ..errors import Invalid
from . import held, live, openapi
from .access import owner
from .compression import takes_gzip
from .context import context
from .pages import SharedPage
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

#: Events that a stream reads at once.
STREAM_PAGE = 500

_KEY_CHARACTERS = 255

_Responses = dict[int | str, dict[str, str | dict[str, dict[str, Any]]]]
_START: _Responses = {
    404: {"description": "The conversation belongs to another owner."},
    409: {"description": "The conversation has a running session and onBusy is reject."},
    422: {"description": "The Idempotency-Key was used with another body."},
}
_PRUNED = "Retention has deleted the events; `finalAnswer` is the place of the answer."
_STREAM: _Responses = {
    200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "It has ended and the client has all of it."},
    410: {"description": _PRUNED},
}
_POLL: _Responses = {
    200: {"description": "A page.", "content": {"application/json": {"schema": openapi.reference(EventsOut)}}},
    304: {"description": "No news since the ETag that came as If-None-Match."},
    410: {"description": _PRUNED},
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
    return session_queries.get(owner(), session_id)


@blueprint.get("/session/<session_id>/events")
@blueprint.input(EventsQuery, location="query", arg_name="query")
@blueprint.doc(responses=_POLL)
def poll(session_id: str, query: EventsQuery) -> Response:
    """Events after a seq

    Pages by `after`: take `nextAfter` of each answer as the next `after`; ask again at once while `hasMore`,
    else after `pollAfterMs`; stop at a `status` other than `running`. `wait` holds the request until there is news.
    """
    me = owner()
    if not query.wait:
        return _answer(_read(me, session_id, query.after, query.limit))
    news = context().news
    waiter = _waiter(me, session_id, query.after, query.limit)
    # Before the look, so that nothing can be committed between the two unnoticed.
    news.register(waiter)
    try:
        page = _read(me, session_id, query.after, query.limit)
        if not page.is_news:
            return held.HeldPoll(news, waiter, page, query.wait, request.if_none_match, gzip=takes_gzip())
    except BaseException:
        news.unregister(waiter)
        raise
    news.unregister(waiter)
    return _answer(page)


@blueprint.get("/session/<session_id>/stream")
@blueprint.input(StreamQuery, location="query", arg_name="query")
@blueprint.doc(responses=_STREAM)
def stream(session_id: str, query: StreamQuery) -> Response:
    """Events as server-sent events

    `id` is the seq and `data` the event; resumes after `Last-Event-ID`; ends after the terminal event. A client that
    asks again after that is told `204`, at which an `EventSource` stops.
    """
    me = owner()
    after = _last_event_id(query.after)
    news = context().news
    waiter = _waiter(me, session_id, after, STREAM_PAGE)
    news.register(waiter)
    try:
        page = _read(me, session_id, after, STREAM_PAGE)
        if page.is_news and not page.events:
            news.unregister(waiter)
            return Response(status=204)
        news.skip(waiter, page)
        return held.Stream(news, waiter, page)
    except BaseException:
        news.unregister(waiter)
        raise


def _last_event_id(default: int) -> int:
    raw = request.headers.get("Last-Event-ID", "")
    if not raw:
        return default
    if not raw.isascii() or not raw.isdecimal() or len(raw) > 10:
        raise Invalid("Last-Event-ID must be a seq", parameter="Last-Event-ID")
    return int(raw)


def _waiter(me: str, session_id: str, after: int, limit: int) -> live.Waiter:
    return live.Waiter(me, session_id, after, limit, request.environ.get("gunicorn.socket"))


def _read(me: str, session_id: str, after: int, limit: int) -> Page:
    """A page of this session; from the database only when there may be news."""
    here = context()
    head = here.heads.get(session_id) or here.standings.get(session_id)
    if head is not None and head.owner == me and head.seq <= after and head.status == "running":
        # Nothing new: this has cost one look at Redis, or none.
        return Page(session_id, "running", [], after, has_more=False, moved_at=head.moved_at)

    def work(begin: Callable[[], None]) -> Page:
        def read() -> tuple[float, Page]:
            begin()
            return here.standings.now(), log.read_after(me, session_id, after, limit)

        read_at, page = db.reading(read)
        if head is None:
            here.standings.remember(me, page, read_at)
        return page

    return here.reads.call((me, session_id, after, limit), work)


def _answer(page: Page) -> Response:
    # Raw: validating a page against its schema would cost more than reading it.
    shared = SharedPage(page)
    known = "If-None-Match" in request.headers and request.if_none_match.contains_weak(shared.etag)
    # Most polls have no news: they must not pay for looking what their client takes.
    answer = shared.answer(known=known, gzip=shared.is_long and takes_gzip())
    return Response(answer.body, answer.status, answer.headers)


@blueprint.post("/session/<session_id>/cancel")
@blueprint.output(SessionOut)
def cancel(session_id: str) -> dict[str, Any]:
    """End a session

    Commits the end, keeps the partial answer and stops the model call. Does nothing to a session that has ended.
    """
    me = owner()
    ended = sessions.end(session_id, Error("cancelled", "cancelled by the user"), owner=me)
    context().standings.forget(session_id)
    context().doorbell.ended(ended)
    return session_queries.get(me, session_id)


@blueprint.delete("/session/<session_id>")
@blueprint.output({}, 204)
@blueprint.doc(summary="Delete a session with its events and messages")
def delete(session_id: str) -> str:
    ended = removal.delete(owner(), session_id)
    context().standings.forget(session_id)
    context().doorbell.deleted(ended)
    return ""


@blueprint.get("/sessions")
@blueprint.input(SessionsQuery, location="query", arg_name="query")
@blueprint.output(SessionsOut)
@blueprint.doc(summary="Recent sessions, newest first")
def recent(query: SessionsQuery) -> dict[str, Any]:
    rows, next_cursor = session_queries.list_recent(owner(), **query.model_dump())
    return {"sessions": rows, "nextCursor": next_cursor}
