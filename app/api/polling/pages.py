"""Pages of events as JSON and as server-sent events, encoded once for all who get the same."""

from __future__ import annotations

import functools
import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from werkzeug.http import parse_accept_header

from app.db.times import utc_now
from app.events.log import EventPage

#: Advice for the next poll, in milliseconds: by default, while text streams, and when nothing has moved for a while.
POLL_MS = 1500
POLL_STREAMING_MS = 1000
POLL_STILL_MS = 3000
STILL_S = 20.0

#: Shorter answers are not worth compressing: they fit one packet as they are.
COMPRESS_BYTES = 1024
# Pages repeat themselves so much that a higher level gains a tenth for three times the work.
_LEVEL = 1


def encode(value: Any) -> bytes:
    """Compact JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def compress(body: bytes) -> bytes:
    """*body* as gzip; the same bytes give the same bytes."""
    return gzip.compress(body, _LEVEL, mtime=0)


@functools.lru_cache(maxsize=1024)
def takes_gzip(accept_encoding: str) -> bool:
    """A client that sends this as `Accept-Encoding` understands gzip."""
    return bool(parse_accept_header(accept_encoding)["gzip"])


def poll_after_ms(page: EventPage, now: float) -> int:
    """Advice for the next poll: soon while text streams, later while nothing moves."""
    if page.has_more:
        return 0
    if page.events and page.events[-1]["eventType"] in ("delta", "thinking"):
        return POLL_STREAMING_MS
    still_s = now - page.moved_at
    return POLL_MS if still_s < STILL_S else POLL_STILL_MS


def page_fields(page: EventPage) -> dict[str, Any]:
    """A page as the API answers it."""
    return {
        "sessionId": page.session_id,
        "status": page.status,
        "events": page.events,
        "nextAfter": page.next_after,
        "hasMore": page.has_more,
        "pollAfterMs": poll_after_ms(page, utc_now().timestamp()),
    }


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent for a page."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class SharedPage:
    """A page that may go to many; each form of it is made when it is first asked for."""

    def __init__(self, page: EventPage) -> None:
        self.page = page
        self._answers: dict[tuple[bool, bool], Answer] = {}

    @cached_property
    def etag(self) -> str:
        """Without quotes; weak: `pollAfterMs` changes by itself."""
        page = self.page
        return f"{page.status}-{page.next_after}-{len(page.events)}-{page.has_more:d}"

    def answer(self, *, known: bool, gzip: bool) -> Answer:
        """The page as JSON.

        Args:
            known: The client has this ETag: 304.
            gzip: The client takes compressed answers.
        """
        made = self._answers.get((known, gzip))
        if made is None:
            made = self._answers[known, gzip] = self._answer(known, gzip)
        return made

    def _answer(self, known: bool, gzip: bool) -> Answer:
        headers = [("ETag", f'W/"{self.etag}"')]
        if known:
            return Answer("304 NOT MODIFIED", headers, b"")
        body = self._json
        if self.is_long:
            headers.append(("Vary", "Accept-Encoding"))
            if gzip:
                body = compress(body)
                headers.append(("Content-Encoding", "gzip"))
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        return Answer("200 OK", headers, body)

    @property
    def is_long(self) -> bool:
        """Worth compressing."""
        return bool(self.page.events) and len(self._json) > COMPRESS_BYTES

    @cached_property
    def _json(self) -> bytes:
        return encode(page_fields(self.page))

    @cached_property
    def sse(self) -> bytes:
        """Its events as server-sent events: `id` is the seq, `data` the event as JSON."""
        return b"".join(b"id: %d\ndata: %b\n\n" % (event["seq"], encode(event)) for event in self.page.events)
