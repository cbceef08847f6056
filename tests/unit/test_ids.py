"""Ids are unique UUIDs in the order of their times."""

from __future__ import annotations

import time
import uuid

from hypothesis import given
from hypothesis import strategies as st

from app.db.ids import new_id

MOMENTS = st.integers(0, 2**48 - 1)


@given(MOMENTS, MOMENTS)
def test_an_id_is_a_uuid_that_sorts_by_its_time(one: int, other: int) -> None:
    first, second = new_id(one), new_id(other)

    for made, at_ms in ((first, one), (second, other)):
        parsed = uuid.UUID(made)
        assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, made)
        assert parsed.int >> 80 == at_ms
    if one != other:
        assert (first < second) == (one < other)


def test_ids_of_the_same_millisecond_differ() -> None:
    assert len({new_id(1) for _ in range(10_000)}) == 10_000


def test_an_id_is_of_now() -> None:
    before = time.time_ns() // 1_000_000

    at_ms = uuid.UUID(new_id()).int >> 80

    assert before <= at_ms <= time.time_ns() // 1_000_000
