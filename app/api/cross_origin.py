"""CORS: pages of other origins may call the API from a browser. No cookies are involved, so none are allowed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

from apiflask import APIFlask
from flask import Response, request

from app.errors import Forbidden

from .access import GUARDED

logger = logging.getLogger(__name__)

_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    # The longest that Chromium remembers it.
    "Access-Control-Max-Age": "7200",
}
_MOST_HEADERS = 50
#: Not only the web's: the pages of desktop and mobile shells have schemes of their own.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s*]+")
_EXPOSED = "ETag, Location, Retry-After, X-Backchat-Session, X-Request-Id, X-Should-Retry, X-Workflow-Run-Id"
_SENT = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "X-Request-Id")
#: What other people's clients send beside these: what they run on, and which way of answering they want.
_SENT_BY_CLIENTS = re.compile(r"user-agent|x-stainless-[a-z-]+|x-backchat-[a-z-]+|openai-[a-z-]+|trpc-accept")


def install(app: APIFlask, origins: str) -> bool:
    """Allow these *origins*: `https://one.example,https://other.example`, or `*` for all; empty: none.

    Returns:
        Whether answers differ by the origin of their requests.
    """
    allowed = frozenset(_named(origins))

    def is_allowed(origin: str) -> bool:
        return bool(origin) and ("*" in allowed or origin.lower() in allowed)

    @app.before_request
    def refuse_other_sites() -> None:
        # The browser says so, also where it would send no Origin: for images, scripts and forms.
        if request.headers.get("Sec-Fetch-Site", "").lower() != "cross-site" or not request.path.startswith(GUARDED):
            return
        if not is_allowed(request.headers.get("Origin", "")):
            raise Forbidden("pages of this origin may not call it; CORS_ORIGINS names those that may")

    if not allowed:
        return False

    @app.before_request
    def preflight() -> Response | None:
        asked = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not asked or not is_allowed(request.headers.get("Origin", "")):
            return None
        named = request.headers.get("Access-Control-Request-Headers", "").lower().replace(" ", "").split(",")
        sent = ", ".join([*_SENT, *filter(_SENT_BY_CLIENTS.fullmatch, named[:_MOST_HEADERS])])
        return Response(status=204, headers=_ALLOWED | {"Access-Control-Allow-Headers": sent})

    @app.after_request
    def allow(response: Response) -> Response:
        if "*" not in allowed:
            response.vary.add("Origin")
        origin = request.headers.get("Origin", "")
        if is_allowed(origin):
            response.headers["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        return response

    return "*" not in allowed


def _named(origins: str) -> Iterator[str]:
    for each in filter(None, (each.strip().rstrip("/").lower() for each in origins.split(","))):
        if each == "*" or _ORIGIN.fullmatch(each):
            yield each
        else:
            logger.warning("origin ignored, it is no scheme://host[:port]", extra={"setting": "CORS_ORIGINS: " + each})
