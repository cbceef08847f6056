"""The Redis client: a pool that blocks when it is exhausted, and a timeout for every call."""

from __future__ import annotations

import re
import weakref
from urllib.parse import quote, unquote, urlencode

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry

from app import server_url
from app.errors import Invalid

_SETTING = "REDIS_URL"
_SCHEMES = ("redis", "rediss", "unix")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS = {*_FILES, "ssl_cert_reqs", "ssl_check_hostname", "ssl_password"}
_PARAMETERS = {"db", "username", "password", *_TLS}


def open_redis(url: str, *, timeout_s: float = 1.0, max_connections: int = 50, client_name: str | None = None) -> Redis:
    """A client for *url*; connects when it is first used, and closes its connections when it is dropped.

    Args:
        url: `redis://…`, `rediss://…` or `unix://…`.
        timeout_s: Longest wait for a free connection, for connecting and for each answer.
        max_connections: More callers than these wait for each other.
        client_name: What Redis lists the connections under.

    Raises:
        Invalid: the URL has another scheme, or a database or parameter that does not exist.
    """
    pool = BlockingConnectionPool.from_url(
        _checked(url),
        max_connections=max_connections,
        timeout=timeout_s,
        client_name=client_name,
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        # One retry: a pooled connection may have died with an earlier Redis. None after a timeout: it would hang again.
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),
    )
    client = Redis.from_pool(pool)
    # When a client is dropped the collector may end its sockets before the connections could close them.
    weakref.finalize(client, pool.disconnect).atexit = False
    return client


def _checked(url: str) -> str:
    """*url* as the library takes it, which silently takes the first database for one that is no number, and finds an
    unknown parameter only when it connects."""
    parts = server_url.split(_SETTING, url, _SCHEMES)
    given = server_url.parameters(_SETTING, parts.query, _PARAMETERS)
    path = unquote(parts.path).strip("/")
    if parts.scheme == "unix" and not path:
        raise Invalid(f"{_SETTING} must name a socket: unix:///path/to/redis.sock?db=0")
    for number in (given.get("db", "0"), "0" if parts.scheme == "unix" else path or "0"):
        if not re.fullmatch("[0-9]{1,9}", number, re.ASCII):
            raise Invalid(f"{_SETTING}: the database must be a number: redis://host:6379/0")
    if parts.scheme != "rediss" and (misplaced := sorted(_TLS & given.keys())):
        raise Invalid(f"{_SETTING}: {misplaced[0]} needs rediss://")
    if given.get("ssl_cert_reqs", "none") not in ("none", "optional", "required"):
        raise Invalid(f"{_SETTING}: ssl_cert_reqs must be one of none, optional, required")
    if check := given.get("ssl_check_hostname"):
        given["ssl_check_hostname"] = str(server_url.boolean(_SETTING, "ssl_check_hostname", check))
    for name in _FILES:
        try:
            if name in given:
                open(given[name], "rb").close()
        except OSError as error:
            raise Invalid(f"{_SETTING}: {name} can't be read: {error.strerror}") from error
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(given, quote_via=quote)}"
