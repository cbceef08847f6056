"""One clock, the database's: a process whose machine is wrong stores and compares the right times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from app.db import times
from app.db.times import to_ms, utc_now

AHEAD = timedelta(seconds=200_000)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    times.follow(to_ms(datetime.now(UTC)), time.monotonic(), time.monotonic())


def follow(moment: datetime, took_s: float = 0.0) -> None:
    now = time.monotonic()
    times.follow(to_ms(moment), now - took_s, now)


@pytest.mark.parametrize("wrong", [AHEAD, -AHEAD, timedelta(seconds=15)])
def test_a_machine_that_is_wrong_goes_by_the_clock_of_the_database(
    monkeypatch: pytest.MonkeyPatch, wrong: timedelta
) -> None:
    monkeypatch.setattr(times, "_machine_now", lambda: datetime.now(UTC) + wrong)

    follow(datetime.now(UTC))

    assert abs(utc_now() - datetime.now(UTC)) < timedelta(seconds=2)


def test_clocks_that_agree_stay_as_they_are() -> None:
    follow(datetime.now(UTC) + timedelta(milliseconds=100))
    assert abs(utc_now() - datetime.now(UTC)) < timedelta(milliseconds=50)

    # A slow answer says little.
    follow(datetime.now(UTC) - timedelta(seconds=2), took_s=6.0)
    assert abs(utc_now() - datetime.now(UTC)) < timedelta(milliseconds=50)


def test_a_machine_whose_clock_is_set_is_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    follow(datetime.now(UTC))
    assert not times.has_jumped()

    monkeypatch.setattr(times, "_machine_now", lambda: datetime.now(UTC) + AHEAD)

    assert times.has_jumped()
    follow(datetime.now(UTC))
    assert not times.has_jumped()
    assert abs(utc_now() - datetime.now(UTC)) < timedelta(seconds=2)
