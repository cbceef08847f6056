"""Streams and whole answers as responses: they follow a session to its end.

What a stream says of the events is its `Render`'s: the events as they are, or what another client knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from flask import Response

from app.errors import BackchatError
from app.events.log import EventPage

from .held import Held, registered
from .hub import ClientGone, Hub, Subscriber, is_closed
from .pages import Answer, SharedPage
from .reader import Reader

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

#: A comment is sent on a silent stream so often: proxies cut connections that are silent for a minute or less.
KEEP_ALIVE_S = 15.0
#: Events that a stream reads at once.
STREAM_PAGE = 500

_KEEP_ALIVE = b": keep-alive\n\n"
#: Whoever wants to know at once that a client has gone looks so often.
_GONE_S = 0.5


class Render(Protocol):
    """What a stream says of each page. One for a stream: it may remember what it has said."""

    def page(self, shared: SharedPage) -> bytes: ...

    def broken(self, error: BackchatError) -> bytes:
        """The last bytes of a stream whose session can't be read any more: it was deleted."""
        ...


class Events:
    """The events as they are."""

    def page(self, shared: SharedPage) -> bytes:
        return shared.sse

    def broken(self, error: BackchatError) -> bytes:
        # The client asks again and gets the error as a problem.
        return b""


def stream(
    reader: Reader,
    hub: Hub,
    subscriber: Subscriber,
    render: Render | None = None,
    *,
    on_gone: Callable[[], object] | None = None,
) -> Response:
    """The events above `subscriber.after` as server-sent events; 204 when it has all of an ended session.

    Args:
        render: What is said of them; None: the events as they are.
        on_gone: Called when the client closes its connection before the end; not when this process closes it.

    Raises:
        NotFound, Gone, DatabaseUnavailable: as `Reader.read`.
    """
    with registered(hub, subscriber) as keep:
        page = _first_page(reader, hub, subscriber)
        if page.is_news and not page.events:
            return Response(status=204)
        keep()
        return Stream(hub, subscriber, page, render or Events(), on_gone=on_gone)


def whole(
    reader: Reader,
    hub: Hub,
    subscriber: Subscriber,
    take: Callable[[EventPage], object],
    answer: Callable[[BackchatError | None], Answer],
    *,
    on_gone: Callable[[], object] | None = None,
) -> Response:
    """One answer when the session has ended.

    Args:
        take: Gets every page above `subscriber.after`.
        answer: Makes the answer after the last one; of the error when the session can't be read any more.
        on_gone: As of `stream`.

    Raises:
        NotFound, Gone, DatabaseUnavailable: as `Reader.read`.
    """
    with registered(hub, subscriber) as keep:
        page = _first_page(reader, hub, subscriber)
        keep()
        return Whole(hub, subscriber, page, take, answer, on_gone=on_gone)


def _first_page(reader: Reader, hub: Hub, subscriber: Subscriber) -> EventPage:
    page = reader.read(subscriber.owner, subscriber.session_id, subscriber.after, subscriber.limit)
    hub.skip(subscriber, page)
    return page


class _Followed(Held):
    """Follows a session from *page* to its end."""

    def __init__(
        self, hub: Hub, subscriber: Subscriber, page: EventPage, on_gone: Callable[[], object] | None, **options: Any
    ) -> None:
        super().__init__(hub, subscriber, **options)
        self._page = page
        self._on_gone = on_gone

    def _follow(self, silence_s: float) -> Iterator[SharedPage | None]:
        """Each page; None when nothing has moved for *silence_s*.

        Raises:
            BackchatError: as `Hub.wait`.
            ClientGone: nobody reads any more.
        """
        yield SharedPage(self._page)
        status = self._page.status
        pause_s = silence_s if self._on_gone is None else min(silence_s, _GONE_S)
        silent_s = 0.0
        while status == "running":
            shared = self._hub.wait(self._subscriber, pause_s)
            if shared is not None:
                silent_s, status = 0.0, shared.page.status
                yield shared
                continue
            if self._on_gone is not None and is_closed(self._subscriber.connection):
                raise ClientGone
            silent_s += pause_s
            if silent_s >= silence_s:
                silent_s = 0.0
                yield None

    @contextmanager
    def _to_the_end(self) -> Iterator[None]:
        """Unregister at the end, and tell when it is the client that made it."""
        try:
            yield
        except ClientGone:
            self._gone()
        except GeneratorExit:
            # A write failed, or this process stops: only a client that has closed its end has left.
            if is_closed(self._subscriber.connection):
                self._gone()
            raise
        finally:
            self._hub.unregister(self._subscriber)

    def _gone(self) -> None:
        if self._on_gone is not None:
            self._on_gone()


class Stream(_Followed):
    """Server-sent events; ends after the terminal event, or when the session is deleted."""

    def __init__(
        self,
        hub: Hub,
        subscriber: Subscriber,
        page: EventPage,
        render: Render | None = None,
        *,
        on_gone: Callable[[], object] | None = None,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        super().__init__(hub, subscriber, page, on_gone, mimetype="text/event-stream")
        self._render = render or Events()
        self._keep_alive_s = keep_alive_s
        # nginx gathers a response before it passes it on, unless it is told not to.
        self.headers["X-Accel-Buffering"] = "no"

    def _serve(self, start_response: StartResponse, headers: list[tuple[str, str]]) -> Iterator[bytes]:
        with self._to_the_end():
            start_response("200 OK", headers)
            first = True
            try:
                for shared in self._follow(self._keep_alive_s):
                    said = b"" if shared is None else self._render.page(shared)
                    # Something is sent at once, so that the client knows that it is connected.
                    if said or shared is None or first:
                        yield said or _KEEP_ALIVE
                    first = False
            except BackchatError as error:
                yield self._render.broken(error)


class Whole(_Followed):
    """See `whole`."""

    def __init__(
        self,
        hub: Hub,
        subscriber: Subscriber,
        page: EventPage,
        take: Callable[[EventPage], object],
        answer: Callable[[BackchatError | None], Answer],
        *,
        on_gone: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(hub, subscriber, page, on_gone)
        self._take = take
        self._answer = answer

    def _serve(self, start_response: StartResponse, headers: list[tuple[str, str]]) -> Iterator[bytes]:
        with self._to_the_end():
            failure: BackchatError | None = None
            try:
                for shared in self._follow(KEEP_ALIVE_S):
                    if shared is not None:
                        self._take(shared.page)
            except BackchatError as error:
                failure = error
            answer = self._answer(failure)
            start_response(answer.status, answer.headers + headers)
            yield answer.body
