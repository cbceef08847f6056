"""The newest seq and status of a live session, published to Redis after each commit.

A cache with a second to live: an idle poll costs one look at it instead of the database. Only what was read from or
committed to the database is published, so a head may be late by its time to live and is never wrong; a missing one, or
a Redis that can't be reached, sends the reader to the database.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from app.observability import metrics

logger = logging.getLogger(__name__)

#: How late a head may be.
TTL_MS = 1000
#: The session ids of new heads are published here, those of one commit in one message, separated by spaces.
CHANNEL = "backchat:news"
#: After a failure Redis is left alone for so long: polls must stay quick while it is down.
_PAUSE_S = 1.0
_STATUSES = frozenset({"running", "done", "error", "deleted"})
#: Reads at the same time; further ones wait for a slot, which is no failure of Redis.
_AT_ONCE = 40


@dataclass(frozen=True, slots=True)
class Head:
    """The newest seq and status of a session, and who may ask for them."""

    session_id: str
    owner: str
    seq: int
    status: str
    #: When its row last changed, in seconds since 1970.
    moved_at: float = 0.0
    #: 0: not known.
    attempt: int = 0


class Heads:
    """Publish and read heads. Never raises for Redis' sake."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._slots = threading.Semaphore(_AT_ONCE)
        self._down_until = 0.0

    def publish(self, heads: Iterable[Head], *, news: bool = True, known_at: float | None = None) -> None:
        """Publish *heads*; with *news* the hubs that wait for their sessions are woken.

        Args:
            heads: What was read or committed.
            news: Whether it has just happened.
            known_at: When that was, by `time.monotonic()`; None: now. Their time to live counts from then.
        """
        heads = list(heads)
        age_ms = 0 if known_at is None else int((time.monotonic() - known_at) * 1000)
        if not heads or self._down():
            return
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for head in heads:
                if age_ms < TTL_MS:
                    value = f"{head.seq} {head.status} {head.moved_at:.1f} {head.owner}"
                    pipeline.set(key(head.session_id), value, px=TTL_MS - age_ms)
            if news:
                pipeline.publish(CHANNEL, " ".join(head.session_id for head in heads))
            pipeline.execute()
        except redis.RedisError:
            self._failed()

    def get(self, session_ids: Sequence[str]) -> dict[str, Head]:
        """The heads of these sessions, by id; of those that are missing the database has to be asked."""
        if not session_ids:
            return {}
        with self._slots:
            # Checked after the wait: Redis may have gone down meanwhile.
            if self._down():
                return {}
            try:
                found: Any = self._redis.mget([key(each) for each in session_ids])
            except redis.RedisError:
                self._failed()
                return {}
        heads = (_head(session_id, raw) for session_id, raw in zip(session_ids, found, strict=True))
        return {head.session_id: head for head in heads if head is not None}

    def forget(self, session_id: str) -> None:
        """Publish that a session was deleted, and wake the hubs that wait for it."""
        if self._down():
            return
        try:
            # Not just removed: a web process may remember the head and go on using it.
            self._redis.set(key(session_id), "0 deleted 0 -", px=TTL_MS)
            self._redis.publish(CHANNEL, session_id)
        except redis.RedisError:
            self._failed()

    def _down(self) -> bool:
        return time.monotonic() < self._down_until

    def _failed(self) -> None:
        metrics.REDIS_ERRORS.labels("heads").inc()
        if not self._down():
            logger.warning("redis can't be reached, polls use the database")
        self._down_until = time.monotonic() + _PAUSE_S


def _head(session_id: str, raw: object) -> Head | None:
    """A head as `publish` wrote it; None: there is none, or somebody else wrote it."""
    try:
        seq, status, moved_at, owner = raw.decode().split(" ", 3)  # type: ignore[attr-defined]
        head = Head(session_id, owner, int(seq), status, float(moved_at))
    except (AttributeError, ValueError):
        return None
    makes_sense = head.status in _STATUSES and head.seq >= 0 and math.isfinite(head.moved_at)
    return head if makes_sense else None


def key(session_id: str) -> str:
    """Where Redis has the head of a session."""
    return f"backchat:head:{session_id}"
