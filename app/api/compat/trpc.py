"""tRPC: the four procedures of the first gateway, and the poll of its page.

Queries are `GET /api/trpc/<name>?input=`, mutations `POST`; `?batch=1` calls several at once, their names joined by
commas and their inputs by number. An input that superjson wrote (`{"json": …}`) is answered in kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from apiflask import APIBlueprint
from flask import Response, request
from pydantic import Field, ValidationError

from app.errors import BackchatError, Invalid
from app.sessions import queries as session_queries

from .. import problems, starting
from ..access import caller, needs, owner, require_session
from ..polling.pages import encode, page_fields
from ..schemas import Camel, EventsQuery, SessionIn, SessionsQuery, page_json
from ..services import services

blueprint = APIBlueprint("trpc", __name__, url_prefix="/api", enable_openapi=False)

#: Calls of one batch.
MOST_CALLS = 20
_EVERYWHERE: tuple[Literal["session", "conversation", "agent"], ...] = ("session", "conversation", "agent")
#: HTTP status → tRPC's name and number of it.
_CODES = {
    400: ("BAD_REQUEST", -32600),
    401: ("UNAUTHORIZED", -32001),
    402: ("PAYMENT_REQUIRED", -32002),
    403: ("FORBIDDEN", -32003),
    404: ("NOT_FOUND", -32004),
    405: ("METHOD_NOT_SUPPORTED", -32005),
    408: ("TIMEOUT", -32008),
    409: ("CONFLICT", -32009),
    410: ("NOT_FOUND", -32004),
    413: ("PAYLOAD_TOO_LARGE", -32013),
    415: ("UNSUPPORTED_MEDIA_TYPE", -32015),
    422: ("UNPROCESSABLE_CONTENT", -32022),
    429: ("TOO_MANY_REQUESTS", -32029),
    503: ("SERVICE_UNAVAILABLE", -32603),
}
_INTERNAL = ("INTERNAL_SERVER_ERROR", -32603)


class OneSession(Camel):
    session_id: str = Field(min_length=1, max_length=64)


class Events(OneSession, EventsQuery):
    #: A held call would hold the others of its batch.
    wait: Literal[0] = 0


def _start(body: SessionIn) -> dict[str, Any]:
    created = starting.start_of(body)
    return {"sessionId": created.session_id, "conversationId": created.conversation_id, "status": "running"}


def _get(wanted: OneSession) -> dict[str, Any]:
    require_session(wanted.session_id)
    return session_queries.get(owner(), wanted.session_id)


def _events(wanted: Events) -> dict[str, Any]:
    require_session(wanted.session_id)
    return page_fields(services().reader.read(owner(), wanted.session_id, wanted.after, wanted.limit))


def _list(wanted: SessionsQuery) -> dict[str, Any]:
    return page_json("sessions", session_queries.list_recent(owner(), within=caller(), **wanted.model_dump()))


@dataclass(frozen=True, slots=True)
class _Procedure:
    is_mutation: bool
    input: type[Camel]
    call: Callable[[Any], dict[str, Any]]


_PROCEDURES = {
    "orchestrator.startSession": _Procedure(True, SessionIn, _start),
    "orchestrator.getSession": _Procedure(False, OneSession, _get),
    "orchestrator.getEvents": _Procedure(False, Events, _events),
    "orchestrator.listSessions": _Procedure(False, SessionsQuery, _list),
}


@blueprint.get("/trpc/<names>")
@needs("read", within=_EVERYWHERE)
def query(names: str) -> Response:
    return _answer(names, request.args.get("input"), is_mutation=False)


@blueprint.post("/trpc/<names>")
@needs("write", within=("conversation", "agent"))
def mutate(names: str) -> Response:
    return _answer(names, request.get_data(as_text=True) or None, is_mutation=True)


@blueprint.get("/orchestrator/getEvents")
@needs("read", within=_EVERYWHERE)
@blueprint.input(Events, location="query", arg_name="query")
def get_events(query: Events) -> dict[str, Any]:
    """The poll of the first gateway's page."""
    return _events(query)


def _answer(names: str, raw: str | None, *, is_mutation: bool) -> Response:
    given = _parsed(raw)
    if request.args.get("batch") != "1":
        status, body = _call(names, given, is_mutation)
        return _json(status, body)
    called = names.split(",")
    if len(called) > MOST_CALLS:
        raise Invalid(f"a batch may have {MOST_CALLS} calls; set `maxItems` of the client's batch link")
    if given is not None and not isinstance(given, dict):
        raise Invalid("the input of a batch is an object of inputs by number")
    answers = [_call(name, (given or {}).get(str(n)), is_mutation) for n, name in enumerate(called)]
    statuses = {status for status, _ in answers}
    return _json(statuses.pop() if len(statuses) == 1 else 207, [body for _, body in answers])


def _parsed(raw: str | None) -> Any:
    if raw is None:
        return None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Invalid("the input is no JSON") from error


def _call(name: str, given: Any, is_mutation: bool) -> tuple[int, Any]:
    """Status and envelope of one call; what goes wrong is that call's alone."""
    superjson = isinstance(given, dict) and "json" in given and given.keys() <= {"json", "meta"}
    value = given["json"] if superjson else given
    procedure = _PROCEDURES.get(name)
    if procedure is None:
        status, detail = 404, f"no procedure {name[:100]!r}"
    elif procedure.is_mutation != is_mutation:
        status, detail = 405, "queries are GET, mutations are POST"
    else:
        try:
            return 200, {"result": {"data": _wrapped(_called(procedure, value), superjson)}}
        except BackchatError as error:
            status, detail = problems.status_of(error), error.detail or error.code
    return status, {"error": _wrapped(_error(status, detail, name), superjson)}


def _called(procedure: _Procedure, value: Any) -> dict[str, Any]:
    try:
        # What is null is not given: superjson writes undefined so.
        parsed = procedure.input.model_validate(
            {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else value or {}
        )
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_url=False)]
        raise Invalid("; ".join(faults[: problems.MOST_FAULTS])) from error
    return procedure.call(parsed)


def _wrapped(value: Any, superjson: bool) -> Any:
    return {"json": value} if superjson else value


def _error(status: int, message: str, path: str | None) -> dict[str, Any]:
    name, number = _CODES.get(status, _INTERNAL)
    data = {"code": name, "httpStatus": status} | ({"path": path} if path else {})
    return {"message": message, "code": number, "data": data}


def error_of_problem(problem: Mapping[str, Any]) -> dict[str, Any]:
    """What a client gets when no procedure was called."""
    return {"error": _error(problem["status"], problem["detail"], None)}


def _json(status: int, body: Any) -> Response:
    return Response(encode(body), status, mimetype="application/json")
