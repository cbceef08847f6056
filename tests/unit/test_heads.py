"""Heads: a cache that may miss and is never in the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import redis
from fakeredis import FakeRedis, FakeServer

from app.broker.client import open_redis
from app.broker.heads import CHANNEL, TTL_MS, Head, Heads
from tests.servers import RedisServer, free_port

HEAD = Head("s-1", "alice", 7, "running", 1234.5)


def get(heads: Heads, session_id: str) -> Head | None:
    return heads.get([session_id]).get(session_id)


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with FakeRedis(server=FakeServer()) as fake:
        yield fake


@pytest.mark.parametrize("owner", ["alice", "two words", "Ёж 🙂", "a  b", "running 7"])
def test_a_published_head_is_read_as_it_was(client: redis.Redis, owner: str) -> None:
    heads = Heads(client)
    head = Head("s-1", owner, 7, "running", 1234.5)

    heads.publish([head])

    assert get(heads, "s-1") == head
    assert get(heads, "s-2") is None


@pytest.mark.parametrize(
    "value",
    [
        *("", "garbage", "x running 1 me", "1 running", b"\xff\xfe a b c", "1 running soon me"),
        *("1 walking 5 me", "1 running nan me", "-1 done 5 me"),
    ],
)
def test_what_is_no_head_is_none(client: redis.Redis, value: str | bytes) -> None:
    heads = Heads(client)
    heads.publish([HEAD, Head("s-2", "bob", 1, "running")])

    client.set("backchat:head:s-1", value)

    assert list(heads.get(["s-1", "s-2"])) == ["s-2"]


def test_the_newest_head_counts(client: redis.Redis) -> None:
    heads = Heads(client)

    heads.publish([HEAD, Head("s-2", "bob", 1, "running")])
    heads.publish([Head("s-1", "alice", 8, "done", 1300.0)])

    assert get(heads, "s-1") == Head("s-1", "alice", 8, "done", 1300.0)
    assert get(heads, "s-2") is not None


def test_a_head_lives_for_a_second(client: redis.Redis) -> None:
    Heads(client).publish([HEAD])

    assert 0 < client.pttl("backchat:head:s-1") <= TTL_MS


def test_the_second_counts_from_when_the_head_was_known(client: redis.Redis) -> None:
    heads = Heads(client)

    heads.publish([HEAD], known_at=time.monotonic() - 0.6)

    assert 0 < client.pttl("backchat:head:s-1") <= 400


def test_a_head_that_was_held_up_for_its_whole_life_replaces_no_newer_one(client: redis.Redis) -> None:
    heads = Heads(client)
    newer = Head("s-1", "alice", 8, "done", 1300.0)
    heads.publish([newer])

    heads.publish([HEAD], known_at=time.monotonic() - 1)

    assert get(heads, "s-1") == newer


def test_news_are_told_and_what_is_no_news_is_not(client: redis.Redis) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(CHANNEL)
        channel.get_message(timeout=1)
        heads = Heads(client)

        heads.publish([Head("quiet", "alice", 1, "running")], news=False)
        heads.publish([HEAD])
        heads.forget("gone")

        told = [message["data"] for message in iter(lambda: channel.get_message(timeout=0.2), None)]
    assert [data.decode().split()[0] for data in told] == ["s-1", "gone"]


def test_a_forgotten_session_is_not_taken_for_one_that_runs(client: redis.Redis) -> None:
    heads = Heads(client)
    heads.publish([HEAD])

    heads.forget("s-1")

    left = get(heads, "s-1")
    assert left is not None
    assert (left.status, left.owner) == ("deleted", "-")


def test_nothing_to_publish_asks_nothing() -> None:
    Heads(open_redis(f"redis://127.0.0.1:{free_port()}")).publish([])


CALLS: dict[str, Callable[[Heads], object]] = {
    "publish": lambda heads: heads.publish([HEAD]),
    "get": lambda heads: get(heads, "s-1"),
    "forget": lambda heads: heads.forget("s-1"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_without_redis_there_are_no_heads_and_no_errors(call: Callable[[Heads], object]) -> None:
    heads = Heads(open_redis(f"redis://127.0.0.1:{free_port()}"))

    assert call(heads) is None
    assert call(heads) is None


def test_a_redis_that_does_not_answer_costs_one_wait_and_not_each_poll_one(
    make_redis: Callable[..., RedisServer],
) -> None:
    server = make_redis()
    heads = Heads(open_redis(server.url, timeout_s=0.3))
    heads.publish([HEAD])
    server.pause()
    get(heads, "s-1")
    started = time.monotonic()

    polls = [get(heads, "s-1") for _ in range(100)]

    assert polls == [None] * 100
    # Each of them waiting would take 30 s.
    assert time.monotonic() - started < 3


def test_heads_are_back_soon_after_redis_is(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis()
    heads = Heads(open_redis(server.url))
    server.kill9()
    assert get(heads, "s-1") is None
    server.start()
    deadline = time.monotonic() + 10

    while get(heads, "s-1") is None:
        assert time.monotonic() < deadline
        heads.publish([HEAD])
        time.sleep(0.05)

    assert get(heads, "s-1") == HEAD
