"""Routes of sessions: start, look, poll, cancel, delete, list."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from apiflask import APIBlueprint
from flask import Response, request

from .. import event_log, session_list, sessions
from ..errors import Invalid
from ..event_log import Page
from ..events import Error
from .access import owner
from .context import context
from .schemas import EventsOut, EventsQuery, SessionIn, SessionOut, SessionsOut, SessionsQuery, SessionStarted

blueprint = APIBlueprint("sessions", __name__, url_prefix="/api/chat", tag="Sessions")

#: Advice for the next poll, in milliseconds.
POLL_MS = 1500

_KEY_CHARACTERS = 255

_Responses = dict[int | str, dict[str, str | dict[str, dict[str, Any]]]]
_START: _Responses = {
    409: {"description": "The conversation has a running session and onBusy is reject."},
    422: {"description": "The Idempotency-Key was used with another body."},
}
_POLL: _Responses = {304: {"description": "No news since the ETag that came as If-None-Match."}}


@blueprint.post("/session")
@blueprint.input(SessionIn, location="json", arg_name="body")
@blueprint.output(SessionStarted, 202, description="Committed; a worker answers it.")
@blueprint.doc(
    summary="Start a session",
    responses=_START,
)
def start(body: SessionIn) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Commits the session and the user's message, then wakes a worker. Send an `Idempotency-Key` header to make
    retries safe: for 24 h the same key and body give the same session."""
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
@blueprint.doc(summary="Events after a seq", responses=_POLL)
def poll(session_id: str, query: EventsQuery) -> Response:
    """Pages by `after`: take `nextAfter` of each answer as the next `after`; ask again at once while `hasMore`,
    else after `pollAfterMs`; stop at a `status` other than `running`."""
    me = owner()
    head = context().heads.get(session_id)
    if head is not None and head.owner == me and head.seq <= query.after and head.status == "running":
        # Nothing new: this poll has cost one look at Redis.
        return _page(Page(session_id, "running", [], query.after, has_more=False))
    return _page(event_log.read_after(me, session_id, query.after, query.limit))


def _page(page: Page) -> Response:
    # Raw: validating a page against its schema would cost more than reading it.
    etag = f"{page.status}-{page.next_after}-{len(page.events)}"
    if request.if_none_match.contains_weak(etag) and not page.events:
        response = Response(status=304)
    else:
        body = {
            "sessionId": page.session_id,
            "status": page.status,
            "events": page.events,
            "nextAfter": page.next_after,
            "hasMore": page.has_more,
            "pollAfterMs": POLL_MS,
        }
        response = Response(json.dumps(body, ensure_ascii=False, separators=(",", ":")), mimetype="application/json")
    response.set_etag(etag, weak=True)
    response.headers["Cache-Control"] = "no-cache"
    return response


@blueprint.post("/session/<session_id>/cancel")
@blueprint.output(SessionOut)
@blueprint.doc(summary="End a session")
def cancel(session_id: str) -> dict[str, Any]:
    """Commits the end, keeps the partial answer and stops the model call. Does nothing to a session that has ended."""
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


__all__ = ["EventsOut", "blueprint"]
