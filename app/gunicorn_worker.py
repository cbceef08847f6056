"""gunicorn's gevent worker, which answers requests that are no HTTP with problems as the application does."""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from typing import Any

import gevent
from gunicorn.http import errors
from gunicorn.workers.ggevent import GeventWorker

#: Status, code and detail of what gunicorn finds wrong before the application sees it. Its own words quote the request,
#: and a token may stand there.
_REFUSALS: dict[type[Exception], tuple[int, str, str]] = {
    errors.LimitRequestLine: (414, "uri_too_long", "the request line is too long"),
    errors.LimitRequestHeaders: (431, "headers_too_large", "the headers are too large"),
    errors.ExpectationFailed: (417, "expectation_failed", "only 100-continue can be expected"),
    errors.UnsupportedTransferCoding: (501, "unsupported_transfer_coding", "only chunked is supported"),
}
_NO_HTTP = (400, "invalid_request", "the request is not valid HTTP")
#: A body that has not arrived so long after its first read is dropped, with its connection.
BODY_S = 30.0
#: What nobody reads is passed over in pieces of this size; others are answered in between.
_PIECE_BYTES = 1 << 20


class _InTime:
    """Reads a body until its time is up.

    Raises:
        RequestTimeout: it is.
    """

    def __init__(self, reader: Any, limit_s: float) -> None:
        self._reader = reader
        self._limit_s = limit_s
        self._deadline: float | None = None

    def read(self, size: int) -> bytes:
        from werkzeug.exceptions import RequestTimeout

        if self._deadline is None:
            self._deadline = time.monotonic() + self._limit_s
        left_s = max(self._deadline - time.monotonic(), 0.001)
        late = RequestTimeout(f"the body did not arrive within {self._limit_s:.0f} s")
        with gevent.Timeout(left_s, late):
            read: bytes = self._reader.read(size)
        return read


def _pass_over(body: Any) -> None:
    """Read what the application has left of a body, such as one of a caller without a token.

    gunicorn would, before the next request, by 1 KiB, and copy all that has arrived for each: 0.2 s for a megabyte in
    which nobody else is answered.

    Raises:
        StopIteration: it does not arrive in time; gunicorn then closes the connection.
    """
    try:
        while body.read(_PIECE_BYTES):
            gevent.sleep(0)
    except Exception as error:
        raise StopIteration from error


class ProblemWorker(GeventWorker):  # type: ignore[misc]
    """Answers requests that can't be parsed with `application/problem+json`, then closes the connection."""

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        if getattr(req.body.reader, "length", None) == 0:
            super().handle_request(listener_name, req, sock, addr)
            return
        req.body.reader = _InTime(req.body.reader, BODY_S)
        super().handle_request(listener_name, req, sock, addr)
        _pass_over(req.body)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        if not isinstance(exc, errors.ParseException):
            super().handle_error(req, client, addr, exc)
            return
        # Whatever the application imports has to wait until gevent has patched the libraries.
        from .api.problems import problem_body

        self.log.info("request refused: %s", type(exc).__name__)
        status, code, detail = _REFUSALS.get(type(exc), _NO_HTTP)
        body = json.dumps(problem_body(status, code, detail)).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            "Content-Type: application/problem+json\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            "Cache-Control: no-store\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + body)
        except OSError as error:
            self.log.debug("the client was gone before it was refused: %s", error)
