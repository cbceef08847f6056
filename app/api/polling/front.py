"""The front: plain polls are answered here, before they reach the framework.

Nearly every request is one, and the framework would take most of its time. Whatever is not plainly the poll of a caller
who may make it, or fails, goes on to the framework, which finds out by itself what it is, and says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from app.access import Principal
from app.api.observed import id_of
from app.errors import DatabaseUnavailable
from app.observability import metrics

from .pages import Answer, SharedPage, takes_gzip
from .reader import Reader

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Headers = list[tuple[str, str]]

_ROUTE = "/api/chat/session/<session_id>/events"
_OK, _KNOWN = "200 OK", "304 NOT MODIFIED"
_PATH = re.compile(r"/api/chat/session/([0-9a-f-]{1,64})/events")
# As the browser client writes it; other ways are the framework's.
_QUERY = re.compile(r"after=(0|[1-9][0-9]{0,8})(?:&limit=([1-9][0-9]{0,2}|1000))?(?:&wait=0)?")
_ONE_ETAG = re.compile(r'(?:W/)?"([^",]*)"')
_DEFAULT_LIMIT = "500"
_UNAVAILABLE = "backchat.unavailable"


class Front:
    """Answers plain polls, and hands all other requests to *application*.

    Args:
        principal_of: Who makes a request. Raises what the framework turns into a problem.
        headers: What every answer of the API carries.
        by_origin: Answers to other origins differ.
    """

    def __init__(
        self,
        application: WSGIApplication,
        reader: Reader,
        principal_of: Callable[[WSGIEnvironment], Principal],
        headers: Headers,
        *,
        by_origin: bool,
    ) -> None:
        self._application = application
        self._reader = reader
        self._principal_of = principal_of
        self._headers = headers
        self._counts = {
            status: metrics.Tally(metrics.HTTP_REQUESTS.labels("GET", _ROUTE, status[:3])) for status in (_OK, _KNOWN)
        }
        self._by_origin = by_origin

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = self._answer(environ)
        if answer is None:
            return self._application(environ, start_response)
        self._counts[answer.status].n += 1
        headers = _varying_by_origin(answer.headers) if self._by_origin else answer.headers
        start_response(answer.status, [*headers, *self._headers, ("X-Request-Id", id_of(environ))])
        return [answer.body]

    def _answer(self, environ: WSGIEnvironment) -> Answer | None:
        """The page that is polled for; None: it is no poll, or not plainly one that can be answered."""
        path = _PATH.fullmatch(environ["PATH_INFO"])
        if path is None or environ["REQUEST_METHOD"] != "GET" or not _is_plain(environ):
            return None
        query = _QUERY.fullmatch(environ.get("QUERY_STRING", ""))
        etag = _ONE_ETAG.fullmatch(environ.get("HTTP_IF_NONE_MATCH", '""'))
        if query is None or etag is None:
            return None
        session_id, (after, limit) = path[1], query.groups(_DEFAULT_LIMIT)
        try:
            who = self._principal_of(environ)
            if who.owner is None or "read" not in who.rights or not _is_in_scope(who, session_id):
                return None
            page = SharedPage(self._reader.read(who.owner, session_id, int(after), int(limit)))
        except DatabaseUnavailable as error:
            # The framework tells it, and must not wait as long again to find it out.
            environ[_UNAVAILABLE] = error
            return None
        except Exception:  # noqa: BLE001 - the framework meets the same, and knows what to say
            return None
        return page.answer(
            known=etag[1] == page.etag, gzip=page.is_long and takes_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))
        )


def require_available(environ: WSGIEnvironment) -> None:
    """For the framework, before it reads what a request asks for.

    Raises:
        DatabaseUnavailable: the front has met it at this request.
    """
    if (error := environ.get(_UNAVAILABLE)) is not None:
        raise error


def _is_plain(environ: WSGIEnvironment) -> bool:
    """It has no body and comes from no other origin."""
    return (
        environ.get("CONTENT_LENGTH", "") in ("", "0")
        and "HTTP_TRANSFER_ENCODING" not in environ
        and "HTTP_ORIGIN" not in environ
        and environ.get("HTTP_SEC_FETCH_SITE", "").lower() != "cross-site"
    )


def _varying_by_origin(headers: Headers) -> Headers:
    if any(name == "Vary" for name, _ in headers):
        return [(name, f"{value}, Origin" if name == "Vary" else value) for name, value in headers]
    return [*headers, ("Vary", "Origin")]


def _is_in_scope(who: Principal, session_id: str) -> bool:
    # Whether a session is of a conversation or an agent takes a look at its row.
    if who.conversations is not None or who.agents is not None:
        return False
    return who.sessions is None or session_id in who.sessions
