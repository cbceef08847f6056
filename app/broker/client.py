"""Open Redis the one way that fits here: a pool that waits its turn, and calls that end."""

from __future__ import annotations

import weakref

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry


def open_redis(url: str, *, timeout_s: float = 1.0, max_connections: int = 50, client_name: str | None = None) -> Redis:
    """A client for *url*; connects when it is first used, and closes its connections when it is dropped.

    Args:
        url: `redis://…`, `rediss://…` or `unix://…`.
        timeout_s: Longest wait for a free connection, for connecting and for each answer.
        max_connections: More callers than these wait for each other.
        client_name: What Redis lists the connections under.

    Raises:
        ValueError: the URL has another scheme.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=timeout_s,
        client_name=client_name,
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        # Once: a pooled connection may have died with the Redis before. Not after a timeout: silent Redis stays silent.
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),
    )
    client = Redis.from_pool(pool)
    # When a client is dropped the collector may end its sockets before the connections could close them.
    weakref.finalize(client, pool.disconnect).atexit = False
    return client
