"""Notifications: one subscription per web process hears which sessions have just changed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import redis

from app.broker.heads import CHANNEL
from app.observability import metrics

logger = logging.getLogger(__name__)

#: How long a message is waited for before the connection is checked.
_WAIT_S = 2.0
_RECONNECT_S = 1.0


class Notifications:
    """Tells its listeners the ids of sessions that changed. They are hints: a message may be lost.

    Args:
        client: For the subscription alone.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Sequence[str]], object]] = []
        self._started = False
        #: The subscription stands.
        self.listening = False

    def subscribe(self, listener: Callable[[Sequence[str]], object]) -> None:
        """Call *listener* with the ids of sessions that changed, from the thread that hears of them."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Listen from now on. Does nothing when it does already."""
        with self._lock:
            if self._started:
                return
            self._started = True
        threading.Thread(target=self._listen_for_ever, name="notifications", daemon=True).start()

    def _listen_for_ever(self) -> None:
        is_outage = False
        while True:
            try:
                self._listen()
            except (redis.RedisError, OSError):
                metrics.REDIS_ERRORS.labels("news").inc()
                # Once for each outage, not once for each try.
                if self.listening or not is_outage:
                    logger.warning("no news from redis, the database is asked instead")
                is_outage = True
            except Exception:
                logger.exception("listening for news failed")
            self.listening = False
            time.sleep(_RECONNECT_S)

    def _listen(self) -> None:
        with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]
            subscription.subscribe(CHANNEL)
            self.listening = True
            while True:
                message = subscription.get_message(timeout=_WAIT_S)
                if message is not None:
                    session_ids = message["data"].decode(errors="replace").split()
                    for listener in self._listeners:
                        listener(session_ids)
