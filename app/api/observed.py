"""What operators see of requests: each is counted by its route, has an id, and is logged where that is asked for."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from apiflask import APIFlask
from flask import request, request_started

from app.observability import metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("backchat.access")

REQUEST_ID = "backchat.request_id"
#: The rule that a request was routed by; whoever answers one that has none sets it.
ROUTE = "backchat.route"
#: True: the request waits for news, so its time says nothing of the server.
HELD = "backchat.held"
_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACE = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def install(app: APIFlask, *, access_log: bool) -> None:
    """Observe every request that reaches *app* itself; what is answered in front of it is counted there."""

    # Not as `before_request`: what stands there refuses requests, which have a route as well.
    @request_started.connect_via(app)
    def name_the_route(*_: object, **__: object) -> None:
        if request.url_rule is not None:
            request.environ[ROUTE] = request.url_rule.rule

    app.extensions[ROUTE] = name_the_route  # the signal holds it weakly
    app.wsgi_app = Observed(app.wsgi_app, access_log=access_log)  # type: ignore[method-assign]


def request_id() -> str:
    """The id of the request that is being served."""
    return str(request.environ[REQUEST_ID])


def traceparent() -> str | None:
    """The trace that the request which is being served belongs to, as W3C's Trace Context writes it."""
    given = request.headers.get("traceparent", "")
    return given if _TRACE.fullmatch(given) else None


def id_of(environ: WSGIEnvironment) -> str:
    """The id that a request came with, if it can stand in a log; else a new one."""
    given = environ.get("HTTP_X_REQUEST_ID")
    if given is not None and _ID.fullmatch(given):
        return str(given)
    return f"{random.getrandbits(64):016x}"


class Observed:
    """The WSGI application *application*, observed."""

    def __init__(self, application: WSGIApplication, *, access_log: bool) -> None:
        self._application = application
        self._access_log = access_log

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = time.monotonic()
        environ[REQUEST_ID] = name = id_of(environ)
        status = "500"

        def start(line: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            nonlocal status
            status = line[:3]
            return start_response(line, [*headers, ("X-Request-Id", name)], *exc_info)

        def ended() -> None:
            self._count(environ, status, time.monotonic() - started)

        try:
            body = self._application(environ, start)
        except BaseException:
            ended()
            raise
        return _Body(body, ended)

    def _count(self, environ: WSGIEnvironment, status: str, seconds: float) -> None:
        method, route = environ["REQUEST_METHOD"], environ.get(ROUTE, metrics.OTHER)
        known = method if method in _METHODS else metrics.OTHER
        metrics.HTTP_REQUESTS.labels(known, route, status).inc()
        if HELD not in environ:
            metrics.HTTP_REQUEST_SECONDS.labels(route).observe(seconds)
        if self._access_log:
            logger.info(
                "request",
                extra={
                    "request_id": environ[REQUEST_ID],
                    "method": method,
                    # Without its parameters, which may hold what was searched for.
                    "path": environ.get("PATH_INFO", ""),
                    "status": status,
                    "seconds": round(seconds, 4),
                    "client": environ.get("REMOTE_ADDR", ""),
                },
            )


class _Body:
    """The chunks of *body*; tells *ended* when the server is done with them, whether it sent them all or not."""

    __slots__ = ("_body", "_chunks", "_ended")

    def __init__(self, body: Iterable[bytes], ended: Callable[[], None]) -> None:
        self._body = body
        self._chunks: Iterator[bytes] = iter(body)
        self._ended = ended

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._ended()
