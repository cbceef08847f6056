"""The state of Redis, as `doctor` reports it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from app.errors import QueueUnavailable

from .client import open_redis

_PREFIX = "backchat:doctor:"


@dataclass(frozen=True, slots=True)
class Findings:
    """Of one Redis."""

    version: str
    #: What it does when its memory is full; empty: it does not say.
    memory_policy: str
    #: Why it takes no writes; empty: it takes them.
    write_fault: str
    #: How far its clock is ahead of this machine's.
    clock_ahead_s: float


def examine(url: str) -> Findings:
    """Ask the Redis at *url*.

    Raises:
        QueueUnavailable: it can't be reached.
        Invalid: it is no URL of a Redis.
    """
    client = open_redis(url)
    try:
        info: Any = client.info()
        seconds, microseconds = client.time()
        ahead_s = seconds + microseconds / 1e6 - time.time()
        return Findings(
            str(info["redis_version"]), str(info.get("maxmemory_policy", "")), _write_fault(client), ahead_s
        )
    except RedisError as error:
        raise QueueUnavailable(f"Redis can't be reached: {error}") from error
    finally:
        client.close()


def _write_fault(client: Any) -> str:
    key = _PREFIX + uuid.uuid4().hex
    try:
        client.set(key, "1", ex=5)
        client.delete(key)
    except RedisError as error:
        return str(error)
    return ""
