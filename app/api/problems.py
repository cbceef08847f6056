"""Errors as RFC 9457 `application/problem+json`, each with a stable `code`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any

from apiflask import APIFlask
from apiflask.exceptions import HTTPError, _ValidationError
from flask import Response, current_app, request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge
from werkzeug.exceptions import NotFound as WerkzeugNotFound

from ..errors import (
    BackchatError,
    BalanceExhausted,
    Busy,
    DatabaseUnavailable,
    Forbidden,
    Gone,
    IdempotencyConflict,
    Invalid,
    IssuerUnavailable,
    LimitReached,
    NotFound,
    OwnerErased,
    QueueUnavailable,
    SchemaOutdated,
    Unauthorized,
    UnknownAgent,
    UnknownModel,
)
from . import observed

logger = logging.getLogger(__name__)

#: The one table of domain error → HTTP status; subclasses take the first that fits.
STATUS: tuple[tuple[type[BackchatError], int], ...] = (
    (UnknownAgent, 400),
    (UnknownModel, 400),
    (Invalid, 400),
    (Unauthorized, 401),
    (BalanceExhausted, 402),
    (Forbidden, 403),
    (NotFound, 404),
    (Busy, 409),
    (OwnerErased, 409),
    (Gone, 410),
    (IdempotencyConflict, 422),
    (LimitReached, 429),
    (QueueUnavailable, 503),
    (DatabaseUnavailable, 503),
    (IssuerUnavailable, 503),
    (SchemaOutdated, 503),
)

#: Codes of errors that the framework raises, by status.
CODES = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    500: "internal_error",
}

RETRY_AFTER_S = 2
_KEPT_HEADERS = frozenset({"allow", "retry-after"})


#: In place of what the framework says.
_DETAILS: dict[type[HTTPException], str] = {
    BadRequest: "the body is no JSON in UTF-8",
    WerkzeugNotFound: "no such path",
}
#: More faults than these are not told.
MOST_FAULTS = 10
#: Unknown names are repeated up to this length.
_NAME_CHARACTERS = 100


def _faults(places: Mapping[str, Mapping[str, list[str]]]) -> dict[str, list[str]]:
    """What is wrong by field; by `body` when that is no object."""
    faults = {}
    for place, fields in places.items():
        for name, messages in fields.items():
            if name == "_schema":
                what = {"json": "a JSON object with the fields", "query": "parameters"}.get(place, "values")
                faults["body" if place == "json" else place] = [f"must be {what} of the document"]
            else:
                faults[name[:_NAME_CHARACTERS]] = [message.removeprefix("Value error, ") for message in messages]
    return dict(islice(faults.items(), MOST_FAULTS))


def problem_body(status: int, code: str, detail: str) -> dict[str, Any]:
    """The fields that every problem has. `type` is `about:blank`: the code says what it is."""
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}


def problem(
    status: int,
    code: str,
    detail: str,
    headers: dict[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """A problem response."""
    body = problem_body(status, code, detail) | dict(extra or {})
    response = Response(json.dumps(body), status, mimetype="application/problem+json")
    response.headers.extend(headers or {})
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def status_of(error: BackchatError) -> int:
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def install(app: APIFlask) -> None:
    """Make every error of *app* a problem."""

    @app.errorhandler(BackchatError)  # type: ignore[untyped-decorator,unused-ignore]
    def domain(error: BackchatError) -> Response:
        status = status_of(error)
        if status == 500:
            logger.error("unexpected domain error", exc_info=error)
        extra: Mapping[str, Any] = error.extra
        if isinstance(error, Gone):
            # What it has are places.
            extra = {name: f"{request.script_root}{place}" for name, place in extra.items()}
        headers = {"Retry-After": str(error.retry_s)} if isinstance(error, LimitReached) else None
        return problem(status, error.code, error.detail or error.code, headers, extra)

    @app.error_processor
    def framework(error: HTTPError) -> Response:
        if isinstance(error, _ValidationError):
            fields = _faults(error.detail)
            faults = "; ".join(f"{name}: {messages[0]}" for name, messages in fields.items())
            return problem(400, "invalid_request", faults, extra={"errors": fields})
        return problem(error.status_code, CODES.get(error.status_code, "http_error"), str(error.message))

    @app.errorhandler(HTTPException)  # type: ignore[untyped-decorator,unused-ignore]
    def http(error: HTTPException) -> Response:
        status = error.code or 500
        headers = {name: value for name, value in error.get_headers() if name.lower() in _KEPT_HEADERS}
        # Werkzeug's own texts blame the browser and ask to check the spelling.
        detail = _DETAILS.get(type(error)) or error.description or error.name
        if isinstance(error, RequestEntityTooLarge):
            own = request.max_content_length != current_app.config["MAX_CONTENT_LENGTH"]
            setting = "MAX_HISTORY_BODY_BYTES" if own else "MAX_BODY_BYTES"
            detail = f"the body may have {request.max_content_length} bytes ({setting})"
        return problem(status, CODES.get(status, "http_error"), detail, headers)

    @app.errorhandler(RecursionError)  # type: ignore[untyped-decorator,unused-ignore]
    def too_deep(error: RecursionError) -> Response:
        return problem(400, "invalid_request", "the body is nested too deeply")

    @app.errorhandler(Exception)  # type: ignore[untyped-decorator,unused-ignore]
    def unexpected(error: Exception) -> Response:
        logger.exception(
            "request failed",
            extra={"method": request.method, "path": request.path, "request_id": observed.request_id()},
        )
        return problem(500, "internal_error", "something went wrong on the server; it has been logged")
