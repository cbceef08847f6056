"""What the one way to open Redis adds to the library."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from redis.connection import AbstractConnection

from app.broker.client import open_redis
from app.errors import Invalid


def test_a_dropped_client_closes_its_connections_before_their_sockets_are_collected(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    disconnect = AbstractConnection.disconnect

    def recorded(connection: AbstractConnection, *arguments: Any) -> None:
        # The collector may find clients of other tests as well.
        if id(connection) == ours:
            order.append("closed")
        disconnect(connection, *arguments)

    client = open_redis(redis_url)
    client.ping()
    [connection] = client.connection_pool._connections
    ours = id(connection)
    weakref.finalize(connection._sock, order.append, "collected")
    monkeypatch.setattr(AbstractConnection, "disconnect", recorded)

    # In a cycle, as the parts of an application are.
    cycle: list[Any] = [client]
    cycle.append(cycle)
    del connection, client, cycle
    gc.collect()

    assert order[:2] == ["closed", "collected"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "must start with redis://, rediss:// or unix://"),
        ("127.0.0.1:6379", "must start with"),
        ("http://:s3cret@host", "must start with"),
        ("redis://:s3cret@host:port/0", "host or port is malformed"),
        ("redis://:s3cret@host:65536/0", "host or port is malformed"),
        ("redis://:s3/cret@host/0", "percent-encoded"),
        ("redis://:1/s3cret@host/0", "percent-encoded"),
        ("redis://:s3#cret@host/0", "percent-encoded"),
        ("redis://:1?s3cret@host/0", "percent-encoded"),
        ("redis://:s3cret@host/first", "the database must be a number"),
        ("redis://:s3cret@host/0/1", "the database must be a number"),
        ("redis://:s3cret@host/-1", "the database must be a number"),
        ("redis://:s3cret@host?db=first", "the database must be a number"),
        ("unix:///run/redis.sock?db=", "db has no value"),
        ("unix://", "must name a socket"),
        ("redis://:s3cret@host/0?timeout=1", "unknown parameter, timeout"),
        ("redis://:s3cret@host/0?socket-timeout=1", "unknown parameter, socket-timeout"),
        ("redis://:s3cret@host/0?ssl_ca_certs=/x", "ssl_ca_certs needs rediss://"),
        ("rediss://:s3cret@host/0?ssl_ca_certs=/absent", "ssl_ca_certs can't be read: No such file"),
        ("rediss://:s3cret@host/0?ssl_keyfile=/", "ssl_keyfile can't be read: "),
        ("rediss://:s3cret@host/0?ssl_cert_reqs=maybe", "ssl_cert_reqs must be one of none, optional, required"),
        ("rediss://:s3cret@host/0?ssl_check_hostname=maybe", "ssl_check_hostname must be true or false"),
    ],
)
def test_a_url_that_can_not_be_used_is_told_in_one_line_without_the_password(url: str, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        open_redis(url)

    assert told in str(refused.value)
    assert str(refused.value).startswith("REDIS_URL")
    assert "s3" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://host", {"host": "host"}),
        ("redis://user:p%40ss%2F@host:7000/3", {"username": "user", "password": "p@ss/", "port": 7000, "db": 3}),
        ("redis://:пароль+℀@host/3/", {"password": "пароль+℀", "db": 3}),
        ("unix:///run/redis.sock?db=2&password=a+b", {"path": "/run/redis.sock", "db": 2, "password": "a+b"}),
        ("unix://user:pass@/run/a%40b", {"path": "/run/a@b", "username": "user", "password": "pass"}),
        (
            "rediss://h?ssl-cert-reqs=none&ssl_check_hostname=off",
            {"ssl_cert_reqs": "none", "ssl_check_hostname": False},
        ),
    ],
)
def test_a_url_says_where_redis_is_and_who_logs_in(url: str, said: dict[str, Any]) -> None:
    client = open_redis(url)

    arguments = client.connection_pool.connection_kwargs
    assert {name: arguments[name] for name in said} == said
    # The library finds out here what it does not know.
    client.connection_pool.connection_class(**arguments)
