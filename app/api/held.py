"""Responses of requests that are held: they wait after Flask is done with the request.

WSGI lets an application name its status as late as with its first bytes. So a held request keeps no request context,
and its answer costs little: thousands may be due in the same instant.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flask import Response
from werkzeug.datastructures import ETags

from app.events.log import Page

from ..errors import BackchatError
from . import problems
from .live import ClientGone, News, Waiter
from .pages import Answer, SharedPage

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: A comment is sent on a silent stream so often: proxies cut connections that are silent for a minute or less.
KEEP_ALIVE_S = 15.0

_KEEP_ALIVE = b": keep-alive\n\n"


class _Held(Response):
    """Waits for *waiter*, which is registered, and unregisters it."""

    default_mimetype = None

    def __init__(self, news: News, waiter: Waiter, **options: Any) -> None:
        super().__init__(**options)
        self._news = news
        self._waiter = waiter

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD":
            # It has no body to wait for.
            self._news.unregister(self._waiter)
            return super().__call__(environ, start_response)
        # What was added to the response since, such as CORS headers, goes with every answer.
        return self._serve(start_response, self.headers.to_wsgi_list())

    def _serve(self, start_response: StartResponse, headers: list[tuple[str, str]]) -> Iterator[bytes]:
        raise NotImplementedError


class HeldPoll(_Held):
    """A poll with `wait`: the next page with news, or *page*, which has none, when *timeout_s* has passed."""

    def __init__(
        self, news: News, waiter: Waiter, page: Page, timeout_s: float, if_none_match: ETags, *, gzip: bool
    ) -> None:
        super().__init__(news, waiter)
        self._page = page
        self._deadline = time.monotonic() + timeout_s
        self._if_none_match = if_none_match
        self._gzip = gzip

    def _serve(self, start_response: StartResponse, headers: list[tuple[str, str]]) -> Iterator[bytes]:
        try:
            shared = self._news.wait(self._waiter, self._deadline - time.monotonic()) or SharedPage(self._page)
            known = bool(self._if_none_match) and self._if_none_match.contains_weak(shared.etag)
            answer = shared.answer(known=known, gzip=self._gzip)
        except BackchatError as error:
            answer = _problem(error)
        except ClientGone:
            answer = SharedPage(self._page).answer(known=False, gzip=False)
        finally:
            self._news.unregister(self._waiter)
        start_response(answer.status, answer.headers + headers)
        yield answer.body
        # Those who still wait for the same news go before what the server has to do after an answer.
        time.sleep(0)


def _problem(error: BackchatError) -> Answer:
    response = problems.problem(problems.status_of(error), error.code, error.detail, extra=error.extra)
    return Answer(response.status, response.headers.to_wsgi_list(), response.get_data())


class Stream(_Held):
    """Server-sent events from *page* on; ends after the terminal event, or when the session is deleted."""

    def __init__(self, news: News, waiter: Waiter, page: Page, *, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        super().__init__(news, waiter, mimetype="text/event-stream")
        self._page = page
        self._keep_alive_s = keep_alive_s
        self.headers["Cache-Control"] = "no-cache"
        # nginx gathers a response before it passes it on, unless it is told not to.
        self.headers["X-Accel-Buffering"] = "no"

    def _serve(self, start_response: StartResponse, headers: list[tuple[str, str]]) -> Iterator[bytes]:
        try:
            start_response("200 OK", headers)
            # Something is sent at once, so that the client knows that it is connected.
            yield SharedPage(self._page).sse or _KEEP_ALIVE
            status = self._page.status
            while status == "running":
                shared = self._news.wait(self._waiter, self._keep_alive_s)
                if shared is None:
                    yield _KEEP_ALIVE
                    continue
                status = shared.page.status
                yield shared.sse
        except (BackchatError, ClientGone):
            # The client comes back, and is told.
            return
        finally:
            self._news.unregister(self._waiter)
