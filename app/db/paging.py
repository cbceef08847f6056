"""How much fits on one page of a list: whole rows, and fewer of them when they are large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peewee

from app import db

#: Bytes of text on one page; only a single row may have more.
PAGE_BYTES = 4 * 1024 * 1024


def size_of(*columns: Any) -> Any:
    """What the text of a row takes, as an expression."""
    texts: list[Any] = [peewee.fn.COALESCE(column, "") for column in columns]
    if db.is_sqlite():
        # Its LENGTH of a text ends at the first NUL.
        texts = [text.cast("BLOB") for text in texts]
    first, *others = (peewee.fn.LENGTH(text) for text in texts)
    return sum(others, start=first)


def how_many_fit(sizes: Sequence[int], limit: int) -> int:
    """How many of the rows of these sizes make a page: at most *limit*, at least one if there is any."""
    total = 0
    for number, size in enumerate(sizes[:limit]):
        total += size
        if number and total > PAGE_BYTES:
            return number
    return min(len(sizes), limit)
