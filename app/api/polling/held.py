"""Polls as responses. One that is held waits after Flask is done with the request.

WSGI lets an application name its status as late as with its first bytes. So a held request keeps no request context,
and its answer costs little: thousands may be due in the same instant.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flask import Response
from werkzeug.datastructures import ETags

from app.api import problems
from app.api.observed import HELD
from app.errors import BackchatError
from app.events.log import EventPage

from .hub import ClientGone, Hub, Subscriber
from .pages import Answer, SharedPage
from .reader import Reader

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def poll(
    reader: Reader,
    hub: Hub,
    subscriber: Subscriber,
    *,
    wait_s: float,
    if_none_match: ETags,
    gzip: bool,
) -> Response:
    """The page that *subscriber* asks for; without news it is held for *wait_s* seconds.

    Raises:
        NotFound, Gone, DatabaseUnavailable: as `Reader.read`.
    """
    if not wait_s:
        page = reader.read(subscriber.owner, subscriber.session_id, subscriber.after, subscriber.limit)
        return _answer(page, if_none_match, gzip=gzip)
    with registered(hub, subscriber) as keep:
        page = reader.read(subscriber.owner, subscriber.session_id, subscriber.after, subscriber.limit)
        if page.is_news:
            return _answer(page, if_none_match, gzip=gzip)
        keep()
        return HeldPoll(hub, subscriber, page, wait_s, if_none_match, gzip=gzip)


@contextmanager
def registered(hub: Hub, subscriber: Subscriber) -> Iterator[Callable[[], None]]:
    """Register before the look, so that nothing is committed between the two unnoticed; stays so after `keep()`."""
    kept: list[bool] = []
    hub.register(subscriber)
    try:
        yield lambda: kept.append(True)
    finally:
        if not kept:
            hub.unregister(subscriber)


def _answer(page: EventPage, if_none_match: ETags, *, gzip: bool) -> Response:
    # Raw: validating a page against its schema would cost more than reading it.
    shared = SharedPage(page)
    known = bool(if_none_match) and if_none_match.contains_weak(shared.etag)
    answer = shared.answer(known=known, gzip=shared.is_long and gzip)
    return Response(answer.body, answer.status, answer.headers)


class Held(Response):
    """Waits for *subscriber*, which is registered, and unregisters it."""

    default_mimetype = None

    def __init__(self, hub: Hub, subscriber: Subscriber, **options: Any) -> None:
        super().__init__(**options)
        self._hub = hub
        self._subscriber = subscriber

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD":
            # It has no body to wait for.
            self._hub.unregister(self._subscriber)
            return super().__call__(environ, start_response)
        environ[HELD] = True
        # What was added to the response since, such as CORS headers, goes with every answer.
        return self._serve(start_response, self.headers.to_wsgi_list())

    def _serve(self, start_response: StartResponse, headers: list[tuple[str, str]]) -> Iterator[bytes]:
        raise NotImplementedError


class HeldPoll(Held):
    """A poll with `wait`: the next page with news, or *page*, which has none, when *timeout_s* has passed."""

    def __init__(
        self, hub: Hub, subscriber: Subscriber, page: EventPage, timeout_s: float, if_none_match: ETags, *, gzip: bool
    ) -> None:
        super().__init__(hub, subscriber)
        self._page = page
        self._deadline = time.monotonic() + timeout_s
        self._if_none_match = if_none_match
        self._gzip = gzip

    def _serve(self, start_response: StartResponse, headers: list[tuple[str, str]]) -> Iterator[bytes]:
        try:
            shared = self._hub.wait(self._subscriber, self._deadline - time.monotonic()) or SharedPage(self._page)
            known = bool(self._if_none_match) and self._if_none_match.contains_weak(shared.etag)
            answer = shared.answer(known=known, gzip=self._gzip)
        except BackchatError as error:
            answer = _problem(error)
        except ClientGone:
            answer = SharedPage(self._page).answer(known=False, gzip=False)
        finally:
            self._hub.unregister(self._subscriber)
        start_response(answer.status, answer.headers + headers)
        yield answer.body
        # Let other subscribers be answered before the server cleans up after this request.
        time.sleep(0)


def _problem(error: BackchatError) -> Answer:
    response = problems.problem(problems.status_of(error), error.code, error.detail, extra=error.extra)
    return Answer(response.status, response.headers.to_wsgi_list(), response.get_data())
