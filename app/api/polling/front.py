"""The front: polls without news are answered here, before they reach the framework.

Nearly every poll is one, and the framework would take most of its time. Whatever is not plainly such a poll of a caller
who may make it goes on to the framework, which finds out by itself what it is, and says what is wrong with it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from app.access import Principal
from app.api.observed import id_of
from app.errors import BackchatError
from app.observability import metrics

from .pages import idle_body, idle_etag
from .reader import Reader

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Headers = list[tuple[str, str]]

_ROUTE = "/api/chat/session/<session_id>/events"
_OK, _KNOWN = "200 OK", "304 NOT MODIFIED"
_PATH = re.compile(r"/api/chat/session/([0-9a-f-]{1,64})/events")
# As the browser client writes it; other ways are the framework's.
_QUERY = re.compile(r"after=(0|[1-9][0-9]{0,8})(?:&limit=(?:[1-9][0-9]{0,2}|1000))?(?:&wait=0)?")
_ONE_ETAG = re.compile(r'(?:W/)?"([^",]*)"')


class Front:
    """Answers idle polls, and hands all other requests to *application*.

    Args:
        principal_of: Who makes a request. Raises what the framework turns into a problem.
        headers: What every answer of the API carries.
    """

    def __init__(
        self,
        application: WSGIApplication,
        reader: Reader,
        principal_of: Callable[[WSGIEnvironment], Principal],
        headers: Headers,
    ) -> None:
        self._application = application
        self._reader = reader
        self._principal_of = principal_of
        self._headers = headers
        self._counts = {
            status: metrics.Tally(metrics.HTTP_REQUESTS.labels("GET", _ROUTE, status[:3])) for status in (_OK, _KNOWN)
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = self._answer(environ)
        if answer is None:
            return self._application(environ, start_response)
        status, headers, body = answer
        self._counts[status].n += 1
        headers.append(("X-Request-Id", id_of(environ)))
        start_response(status, headers)
        return [body]

    def _answer(self, environ: WSGIEnvironment) -> tuple[str, Headers, bytes] | None:
        """Status, headers and body of an idle poll; None: it is not one, or not plainly one."""
        path = _PATH.fullmatch(environ["PATH_INFO"])
        if path is None or environ["REQUEST_METHOD"] != "GET":
            return None
        query = _QUERY.fullmatch(environ.get("QUERY_STRING", ""))
        if query is None or not _is_plain(environ):
            return None
        session_id, after = path[1], int(query[1])
        try:
            who = self._principal_of(environ)
        except BackchatError:
            return None
        if who.owner is None or "read" not in who.rights or not _is_in_scope(who, session_id):
            return None
        head = self._reader.idle(who.owner, session_id, after)
        return None if head is None else self._idle(environ, session_id, after, head.moved_at)

    def _idle(
        self, environ: WSGIEnvironment, session_id: str, after: int, moved_at: float
    ) -> tuple[str, Headers, bytes] | None:
        etag = idle_etag(after)
        headers = [("ETag", f'W/"{etag}"')]
        asked = environ.get("HTTP_IF_NONE_MATCH")
        if asked is not None:
            known = _ONE_ETAG.fullmatch(asked)
            if known is None:
                return None
            if known[1] == etag:
                return _KNOWN, headers + self._headers, b""
        body = idle_body(session_id, after, moved_at, time.time())
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        return _OK, headers + self._headers, body


def _is_plain(environ: WSGIEnvironment) -> bool:
    """It has no body and comes from no other origin."""
    return (
        environ.get("CONTENT_LENGTH", "") in ("", "0")
        and "HTTP_TRANSFER_ENCODING" not in environ
        and "HTTP_ORIGIN" not in environ
        and environ.get("HTTP_SEC_FETCH_SITE", "").lower() != "cross-site"
    )


def _is_in_scope(who: Principal, session_id: str) -> bool:
    # Whether a session is of a conversation or an agent takes a look at its row.
    if who.conversations is not None or who.agents is not None:
        return False
    return who.sessions is None or session_id in who.sessions
