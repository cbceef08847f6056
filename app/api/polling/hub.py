"""The hub: held requests subscribe to a session here and are handed its pages as they are committed.

One subscription per web process (`notifications`) hears of every commit. A commit is read and encoded once for all
subscribers at the same seq, however many they are. News is a hint: one look at the database for all sessions that are
waited for, every few seconds, finds what a lost message or a Redis that is down would have hidden.
"""

from __future__ import annotations

import logging
import queue
import select
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from gevent import monkey

from app import db
from app.access.principal import LOCAL_OWNER
from app.errors import DatabaseUnavailable, Gone, NotFound, TooManyHeld
from app.events import log
from app.observability import metrics
from app.sessions import queries as session_queries

from .notifications import Notifications
from .pages import SharedPage

logger = logging.getLogger(__name__)

#: Pause between two looks at all subscribed sessions: while Redis delivers news, and while it does not.
LOOK_S = 2.0
LOOK_WITHOUT_NEWS_S = 0.5
#: Pause between two checks for clients that closed their connections.
GONE_S = 3.0
#: Pages that are read at the same time.
READERS = 4
#: Subscribers that overran their deadline by this much are dropped.
_FORGOTTEN_S = 60.0

# gevent's own `poll` would take a watcher for each of thousands of connections; this one returns at once anyway.
_poll: Callable[[], Any] = monkey.get_original("select", "poll")
# Closed by the client: also while bytes that it sent before are still unread.
_CLOSED = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR | select.POLLNVAL


def is_closed(connection: socket.socket | None) -> bool:
    """Whether the other side of *connection* has closed it; not when it was closed here."""
    if connection is None or (number := connection.fileno()) < 0:
        return False
    poll = _poll()
    poll.register(number, _CLOSED)
    return any(events & _CLOSED for _, events in poll.poll(0))


class ClientGone(Exception):
    """The client has closed its connection."""


class Subscriber:
    """A held request: is handed the pages of a session above *after*, each once and in order.

    Args:
        connection: Its client's, to see when it goes; None: not known.
    """

    __slots__ = ("_handed", "_missed", "_signal", "_until", "after", "connection", "limit", "owner", "session_id")

    def __init__(
        self, owner: str, session_id: str, after: int, limit: int, connection: socket.socket | None = None
    ) -> None:
        self.owner = owner
        self.session_id = session_id
        self.after = after
        self.limit = limit
        self.connection = connection
        # A plain lock, locked until there is something to take: an Event costs ten times as much to wait for.
        self._signal = threading.Lock()
        self._signal.acquire()
        self._handed: SharedPage | Exception | None = None
        # More was committed before the subscriber took the page that it was handed.
        self._missed = False
        self._until = time.monotonic()


class Hub:
    """Hands pages to subscribers. Starts listening with the first one.

    Args:
        read: As `app.events.log.read`.
        held_per_owner: Requests of one owner that are held at once; 0: any number.
    """

    def __init__(
        self, notifications: Notifications, read: Callable[..., log.EventPage] = log.read, *, held_per_owner: int = 0
    ) -> None:
        self._notifications = notifications
        self._read = read
        self._lock = threading.Lock()
        self._held_per_owner = held_per_owner
        self._held: Counter[str] = Counter()
        self._subscribed: dict[str, set[Subscriber]] = defaultdict(set)
        #: Sessions to read, each once.
        self._moved: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._queued: set[str] = set()
        self._started = False

    def register(self, subscriber: Subscriber) -> None:
        """From now on *subscriber* misses nothing; what was committed before is the caller's to read.

        Raises:
            TooManyHeld: as many requests of its owner are held as may be.
        """
        owner = subscriber.owner
        with self._lock:
            if self._held_per_owner and owner != LOCAL_OWNER and self._held[owner] >= self._held_per_owner:
                raise TooManyHeld(f"{self._held_per_owner} of your polls and streams are held", retry_s=1)
            self._held[owner] += 1
            self._subscribed[subscriber.session_id].add(subscriber)
            metrics.HELD_REQUESTS.inc()
            if self._started:
                return
            self._started = True
        self._notifications.subscribe(self._to_read)
        self._notifications.start()
        for work in (self._look_for_ever, *(self._read_for_ever,) * READERS):
            threading.Thread(target=work, name="hub", daemon=True).start()

    def unregister(self, subscriber: Subscriber) -> None:
        with self._lock:
            self._unregister(subscriber)

    def _unregister(self, subscriber: Subscriber) -> None:
        subscribers = self._subscribed.get(subscriber.session_id)
        if subscribers is None or subscriber not in subscribers:
            return
        subscribers.remove(subscriber)
        metrics.HELD_REQUESTS.dec()
        self._held[subscriber.owner] -= 1
        if not self._held[subscriber.owner]:
            del self._held[subscriber.owner]
        if not subscribers:
            del self._subscribed[subscriber.session_id]

    def wait(self, subscriber: Subscriber, timeout_s: float) -> SharedPage | None:
        """The next page above `subscriber.after` with events or an end, and move on behind it; None: time has passed.

        Raises:
            NotFound: the session was deleted.
            Gone: its events were deleted by retention.
            ClientGone: nobody would read the answer.
        """
        subscriber._until = time.monotonic() + timeout_s
        signalled = subscriber._signal.acquire(timeout=max(0.0, timeout_s))
        with self._lock:
            handed, subscriber._handed = subscriber._handed, None
            again, subscriber._missed = subscriber._missed, False
            if handed is not None and not signalled:
                # The page was handed out after the wait timed out.
                subscriber._signal.acquire()
            if isinstance(handed, SharedPage):
                subscriber.after = handed.page.next_after
                again |= handed.page.has_more
        if isinstance(handed, Exception):
            # All subscribers get the same exception: its traceback must not grow with each raise.
            raise handed.with_traceback(None)
        if again:
            self._to_read([subscriber.session_id])
        return handed

    def skip(self, subscriber: Subscriber, page: log.EventPage) -> None:
        """*subscriber* has read *page* by itself: go on behind it."""
        with self._lock:
            again = subscriber._missed or subscriber._handed is not None or page.has_more
            if subscriber._handed is not None:
                subscriber._signal.acquire()
            subscriber._handed, subscriber._missed = None, False
            subscriber.after = page.next_after
        if again:
            self._to_read([subscriber.session_id])

    def _to_read(self, session_ids: Iterable[str]) -> None:
        with self._lock:
            new = [each for each in session_ids if each in self._subscribed and each not in self._queued]
            self._queued.update(new)
        for session_id in new:
            self._moved.put(session_id)

    def _read_for_ever(self) -> None:
        while True:
            session_id = self._moved.get()
            try:
                # One connection for all sessions that changed at once.
                with db.connected():
                    while True:
                        self._serve(session_id)
                        session_id = self._moved.get_nowait()
            except queue.Empty:
                continue
            except DatabaseUnavailable:
                # Subscribers stay; the next look finds the news again.
                continue
            except Exception:
                # Without this loop no held request would ever be answered.
                logger.exception("news could not be read")

    def _serve(self, session_id: str) -> None:
        alike: dict[tuple[str, int, int], list[Subscriber]] = defaultdict(list)
        with self._lock:
            self._queued.discard(session_id)
            for subscriber in self._subscribed.get(session_id, ()):
                if subscriber._handed is None:
                    alike[subscriber.owner, subscriber.after, subscriber.limit].append(subscriber)
                else:
                    # A slow client: one page at a time, not the same one again and again.
                    subscriber._missed = True
        for (owner, after, limit), subscribers in alike.items():
            outcome: SharedPage | Exception
            try:
                page = self._read(owner, session_id, after, limit)
            except (NotFound, Gone) as error:
                outcome = error
            else:
                if not page.is_news:
                    continue
                outcome = SharedPage(page)
            self._hand_out(outcome, after, subscribers)

    def _hand_out(self, outcome: SharedPage | Exception, after: int, subscribers: Iterable[Subscriber]) -> None:
        with self._lock:
            for subscriber in subscribers:
                if subscriber.after != after or subscriber._handed is not None:
                    # The subscriber moved on since the read.
                    subscriber._missed = True
                    continue
                subscriber._handed = outcome
                subscriber._signal.release()

    def _look_for_ever(self) -> None:
        let_go_at = 0.0
        while True:
            time.sleep(LOOK_S if self._notifications.listening else LOOK_WITHOUT_NEWS_S)
            try:
                if time.monotonic() >= let_go_at:
                    self._let_go()
                    let_go_at = time.monotonic() + GONE_S
                self._look()
            except DatabaseUnavailable:
                continue
            except Exception:
                logger.exception("looking for news failed")

    def _look(self) -> None:
        with self._lock:
            slowest = {session_id: min(each.after for each in held) for session_id, held in self._subscribed.items()}
        heads = session_queries.heads(list(slowest))
        self._to_read(
            session_id
            for session_id, after in slowest.items()
            if (head := heads.get(session_id)) is None or head.seq > after or head.status != "running"
        )

    def _let_go(self) -> None:
        """End the waits of clients that have gone: their greenlets or threads are better used elsewhere."""
        poll = _poll()
        connected: dict[int, Subscriber] = {}
        forgotten = time.monotonic() - _FORGOTTEN_S
        with self._lock:
            held = [subscriber for subscribers in self._subscribed.values() for subscriber in subscribers]
            for subscriber in held:
                if subscriber._until < forgotten:
                    self._unregister(subscriber)
                elif subscriber.connection is not None and (number := subscriber.connection.fileno()) >= 0:
                    connected[number] = subscriber
                    poll.register(number, _CLOSED)
        gone = [connected[number] for number, events in poll.poll(0) if events & _CLOSED]
        with self._lock:
            for subscriber in gone:
                if subscriber._handed is None:
                    subscriber._signal.release()
                subscriber._handed = ClientGone()
