"""What operators see of sessions: each start, claim, hand-back and end is counted and logged once, after its commit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from app.db.models import Session
from app.db.times import utc_now
from app.events import Done, Terminal
from app.observability import metrics

if TYPE_CHECKING:
    from .claims import Claim, Held

logger = logging.getLogger("backchat.sessions")

#: Why a session is taken over of which nobody has said more: its worker is from before the heartbeats.
_UNKNOWN = "lease expired"


def seconds_since(moment: datetime | None) -> float:
    """How long ago that was; 0 if it is not known, or another machine's clock is ahead."""
    return 0.0 if moment is None else max(0.0, (utc_now() - moment).total_seconds())


def accepted() -> None:
    """A session was committed; its first line in the log is that of its claim."""
    metrics.SESSIONS_STARTED.inc()


def claimed(claims: Sequence[Claim], worker: str) -> None:
    """Attempts begin."""
    for claim in claims:
        kind = "first" if claim.attempt == 1 else "taken_over" if claim.taken_from is not None else "handed_back"
        metrics.CLAIMS.labels(kind).inc()
        fields = of_claim(claim) | {"worker": worker}
        if kind == "first":
            waited_s = seconds_since(claim.created_at)
            metrics.CLAIM_SECONDS.observe(waited_s)
            fields |= {"agent_id": claim.agent_id, "model": claim.model, "waited_s": round(waited_s, 3)}
            logger.info("session started", extra=fields)
        elif kind == "handed_back":
            logger.info("session resumed", extra=fields)
        else:
            cause = claim.cause or _UNKNOWN
            metrics.TAKEOVERS.labels(cause).inc()
            fields |= {"cause": cause}
            logger.warning("session taken over", extra=fields)


def first_text(claim: Claim) -> None:
    """The first text of an answer was said."""
    metrics.FIRST_TEXT_SECONDS.observe(seconds_since(claim.created_at))


def handed_back(claim: Claim | Held) -> None:
    """A stopping worker gave a session back."""
    metrics.HAND_BACKS.inc()
    logger.info("session handed back", extra=of_claim(claim))


def fenced(claim: Claim) -> None:
    """An attempt writes no more: its session was taken over, cancelled, ended or deleted."""
    metrics.FENCED.inc()
    logger.info("attempt fenced", extra=of_claim(claim))


def ended(row: Session, terminal: Terminal, attempt: int) -> None:
    """A session has ended, by its run or from outside."""
    took_s = seconds_since(row.created_at)
    code = "" if isinstance(terminal, Done) else terminal.error_code
    metrics.SESSIONS_ENDED.labels(terminal.type, metrics.ERROR_CODES.label(code) if code else "").inc()
    metrics.SESSION_SECONDS.observe(took_s)
    fields = _fields(row.session_id, attempt, row.request_id) | {"seconds": round(took_s, 3)}
    if isinstance(terminal, Done):
        tokens = terminal.usage.total_tokens if terminal.usage is not None else None
        logger.info("session done", extra=fields | {"model": terminal.model, "tokens": tokens})
        return
    fields |= {"error_code": code, "error": terminal.error_msg}
    if terminal.provider_said:
        fields["provider_said"] = terminal.provider_said
    if code == "cancelled":
        logger.info("session cancelled", extra=fields)
    else:
        logger.warning("session failed", extra=fields)


def of_claim(claim: Claim | Held) -> dict[str, object]:
    """The fields of each line about this attempt."""
    return _fields(claim.session_id, claim.attempt, claim.request_id)


def _fields(session_id: str, attempt: int, request_id: str | None) -> dict[str, object]:
    """Of each line about a session; one of an older process, or of no request, has no request's id."""
    fields: dict[str, object] = {"session_id": session_id, "attempt": attempt}
    return fields | {"request_id": request_id} if request_id else fields
