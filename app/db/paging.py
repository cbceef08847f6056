"""One page of a list: whole rows in the order of an index, fewer of them when they are large, and a cursor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import peewee

from app import db

T = TypeVar("T")
K = TypeVar("K")

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


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of a list, and how to go on."""

    rows: list[T]
    #: None: there are no more.
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        return self.next_cursor is not None


def cut(
    keys: Sequence[K], limit: int, cursor_of: Callable[[K], str], sizes: Sequence[int] | None = None
) -> tuple[list[K], str | None]:
    """Of one key more than *limit*, those of this page and the cursor of the next.

    Args:
        sizes: What the text of each row takes, in bytes; None: they are small.
    """
    fit = limit if sizes is None else how_many_fit(sizes, limit)
    shown = list(keys[:fit])
    return shown, cursor_of(shown[-1]) if len(keys) > fit else None
