"""News without asking again: held polls (`wait`) and server-sent events.

One subscription per web process hears of every commit (`heads.CHANNEL`) and wakes who waits for that session. It is a
hint: one look at the database for all sessions that are waited for, every few seconds, finds what a lost message or a
Redis that is down would have hidden.
"""

from __future__ import annotations

import json
import logging
import select
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import redis
from flask import request

from .. import session_list
from ..errors import DatabaseUnavailable
from ..event_log import Page
from ..heads import CHANNEL

logger = logging.getLogger(__name__)

#: How often all sessions that are waited for are looked up: while the subscription stands, and while it does not.
LOOK_S = 2.0
LOOK_WITHOUT_NEWS_S = 0.5
#: How often one who waits looks whether its client is still there.
GONE_S = 5.0
#: A comment is sent on a silent stream so often: proxies cut connections that are silent for a minute or less.
KEEP_ALIVE_S = 15.0
_RECONNECT_S = 1.0

Read = Callable[[], Page]


class Waiter:
    """A held request."""

    __slots__ = ("after", "woken")

    def __init__(self, after: int) -> None:
        self.after = after
        self.woken = threading.Event()


class News:
    """Wakes who waits for a session. Starts listening with the first one who waits."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._lock = threading.Lock()
        self._waiting: dict[str, set[Waiter]] = defaultdict(set)
        self._listening = False
        self._started = False
        self._reads: dict[object, _SharedRead] = {}

    def wait(self, session_id: str, after: int, ready: Callable[[bool], Page | None], timeout_s: float) -> Page | None:
        """Call *ready* until it returns a page: at once and at each news of events above *after*.

        Args:
            ready: Is told whether there is news, so that it can do without looking for it.

        Returns None when *timeout_s* has passed or the client has gone.
        """
        deadline = time.monotonic() + timeout_s
        waiter = Waiter(after)
        self._register(session_id, waiter)
        try:
            while True:
                news = waiter.woken.is_set()
                waiter.woken.clear()
                page = ready(news)
                if page is not None:
                    return page
                while not waiter.woken.wait(max(0.0, min(deadline - time.monotonic(), GONE_S))):
                    if time.monotonic() >= deadline or _client_has_gone():
                        return None
        finally:
            self._unregister(session_id, waiter)

    def shared(self, key: object, read: Read) -> Page:
        """*read*, once for all who ask for the same *key* at the same time: a commit may wake thousands at once."""
        with self._lock:
            flight = self._reads.get(key)
            mine = flight is None
            if flight is None:
                flight = self._reads[key] = _SharedRead()
        if not mine:
            return flight.result()
        try:
            return flight.run(read)
        finally:
            with self._lock:
                del self._reads[key]

    def _register(self, session_id: str, waiter: Waiter) -> None:
        with self._lock:
            self._waiting[session_id].add(waiter)
            if not self._started:
                self._started = True
                for work in (self._listen_for_ever, self._look_for_ever):
                    threading.Thread(target=work, name="news", daemon=True).start()

    def _unregister(self, session_id: str, waiter: Waiter) -> None:
        with self._lock:
            self._waiting[session_id].discard(waiter)
            if not self._waiting[session_id]:
                del self._waiting[session_id]

    def _listen_for_ever(self) -> None:
        while True:
            try:
                self._listen()
            except (redis.RedisError, OSError):
                logger.warning("no news from redis, the database is asked instead")
            self._listening = False
            time.sleep(_RECONNECT_S)

    def _listen(self) -> None:
        with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]
            subscription.subscribe(CHANNEL)
            self._listening = True
            while True:
                message = subscription.get_message(timeout=LOOK_S)
                if message is not None:
                    self._wake(message["data"].decode())

    def _wake(self, session_id: str) -> None:
        with self._lock:
            waiters = list(self._waiting.get(session_id, ()))
        for waiter in waiters:
            waiter.woken.set()

    def _look_for_ever(self) -> None:
        while True:
            time.sleep(LOOK_S if self._listening else LOOK_WITHOUT_NEWS_S)
            try:
                self._look()
            except DatabaseUnavailable:
                continue
            except Exception:
                # Held requests depend on this loop for as long as the process lives.
                logger.exception("looking for news failed")

    def _look(self) -> None:
        with self._lock:
            waiting = {session_id: list(waiters) for session_id, waiters in self._waiting.items()}
        newest = session_list.newest(list(waiting))
        for session_id, waiters in waiting.items():
            last_seq, status = newest.get(session_id, (0, "deleted"))
            for waiter in waiters:
                if last_seq > waiter.after or status != "running":
                    waiter.woken.set()


class _SharedRead:
    def __init__(self) -> None:
        self._done = threading.Event()
        self._page: Page | None = None
        self._error: Exception | None = None

    def run(self, read: Read) -> Page:
        try:
            self._page = read()
        except Exception as error:
            self._error = error
            raise
        finally:
            self._done.set()
        return self._page

    def result(self) -> Page:
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._page is not None
        return self._page


def _client_has_gone() -> bool:
    """The client closed its connection: its greenlet or thread is better used elsewhere."""
    connection: socket.socket | None = request.environ.get("gunicorn.socket")
    if connection is None:
        return False
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True


def stream(first: Page, more: Callable[[int], Page | None]) -> Iterator[str]:
    """Server-sent events: `id` is the seq, `data` the event as JSON; ends after the terminal event.

    Args:
        first: Read before the response began, so that an unknown session is still a 404.
        more: after → the next page that has events or a terminal status; None when it is time for a sign of life.
    """
    page: Page | None = first
    after = first.next_after
    while True:
        if page is None:
            yield ": keep-alive\n\n"
        else:
            for event in page.events:
                yield f"id: {event['seq']}\ndata: {encode(event)}\n\n"
            after = page.next_after
            if page.status != "running":
                return
        page = more(after)


def encode(value: Any) -> str:
    """Compact JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
