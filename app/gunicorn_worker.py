"""gunicorn's gevent worker, which answers requests that are no HTTP with problems as the application does."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors
from gunicorn.workers.ggevent import GeventWorker

#: Status and code of what gunicorn finds wrong before the application sees it; 400 for all else.
_REFUSALS: dict[type[Exception], tuple[int, str]] = {
    errors.LimitRequestLine: (414, "uri_too_long"),
    errors.LimitRequestHeaders: (431, "headers_too_large"),
    errors.ExpectationFailed: (417, "expectation_failed"),
    errors.UnsupportedTransferCoding: (501, "unsupported_transfer_coding"),
}


class ProblemWorker(GeventWorker):  # type: ignore[misc]
    """Answers requests that can't be parsed with `application/problem+json`, then closes the connection."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        if not isinstance(exc, errors.ParseException):
            super().handle_error(req, client, addr, exc)
            return
        # Whatever the application imports has to wait until gevent has patched the libraries.
        from .api.problems import problem_body

        self.log.info("request refused: %s", exc)
        status, code = _REFUSALS.get(type(exc), (400, "invalid_request"))
        body = json.dumps(problem_body(status, code, str(exc))).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            "Content-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + body)
        except OSError as error:
            self.log.debug("the client was gone before it was refused: %s", error)
