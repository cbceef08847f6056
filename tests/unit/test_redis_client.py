"""What the one way to open Redis adds to the library."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from redis.connection import Connection

from app.broker.client import open_redis


def test_a_dropped_client_closes_its_connections_before_their_sockets_are_collected(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    disconnect = Connection.disconnect

    def recorded(connection: Connection, *arguments: Any) -> None:
        # The collector may find clients of other tests as well.
        if id(connection) == ours:
            order.append("closed")
        disconnect(connection, *arguments)

    client = open_redis(redis_url)
    client.ping()
    [connection] = client.connection_pool._connections
    ours = id(connection)
    weakref.finalize(connection._sock, order.append, "collected")
    monkeypatch.setattr(Connection, "disconnect", recorded)

    # In a cycle, as the parts of an application are.
    cycle: list[Any] = [client]
    cycle.append(cycle)
    del connection, client, cycle
    gc.collect()

    assert order[:2] == ["closed", "collected"]
