"""Where the parts of a run listen."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket

from redis.exceptions import RedisError

from app.broker.client import open_redis
from app.errors import BackchatError

from .errors import Failed

#: Systems give outgoing connections ports from 32768 on, or higher ones.
_PORTS = range(15_000, 32_000)


def require_redis(url: str) -> None:
    """Return when the Redis that the user named answers.

    Raises:
        Failed: it does not, or the URL is none.
    """
    advice = "set REDIS_URL right, or leave it empty: then a broker is brought along"
    try:
        with open_redis(url) as client:
            client.ping()
    except (RedisError, BackchatError) as error:
        raise Failed(f"the Redis of REDIS_URL can't be used: {str(error).rstrip('.')}; {advice}") from error


def require_free(host: str, port: int) -> None:
    """Return when nobody listens there.

    Raises:
        Failed: somebody does, or the address can't be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As gunicorn will: connections of an earlier run that still close are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError as error:
            raise Failed(f"PORT={port} is no port: they end at 65535") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Failed(
                    f"port {port} is in use, perhaps by another `make run`; stop it, or choose another: PORT={port + 1}"
                ) from error
            raise Failed(f"{host}:{port} can't be used: {error.strerror}") from error


def free_port() -> int:
    """A loopback port that nobody listens on right now and that no outgoing connection is given.

    One of those would take the port while its server is away, or connect to itself there.
    """
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
