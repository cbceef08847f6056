"""The rows of an owner, by what the models say of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from peewee import CompositeKey

from app import db
from app.db.base import Base
from app.db.fields import Owned
from app.db.models import MODELS, Session

#: Rows of one statement.
AT_ONCE = 200


def tables(*owned: Owned) -> tuple[type[Base], ...]:
    """The models whose rows name their owner in one of these ways."""
    return tuple(model for model in MODELS if model.owned in owned)


def keys(owner: str, model: type[Base], *, also: Any = None) -> Iterator[list[Any]]:
    """The primary keys of *owner*'s rows of a table that has `owner`, in their order, some at a time.

    Args:
        also: A further condition.
    """
    wanted = _of(model).owner == owner
    if also is not None:
        wanted &= also
    key: Any = model._meta.primary_key
    if isinstance(key, CompositeKey):
        # Few rows: they are read at once.
        yield db.reading(lambda: db.tuples(model.select(*key_fields(model)).where(wanted)))
        return
    last = None
    while True:
        after = wanted if last is None else wanted & (key > last)
        query = model.select(key).where(after).order_by(key).limit(AT_ONCE)
        some = [value for (value,) in db.reading(lambda query=query: db.tuples(query))]  # type: ignore[misc]
        if not some:
            return
        yield some
        last = some[-1]


def sessions(owner: str) -> Iterator[list[str]]:
    """The ids of *owner*'s sessions, some at a time."""
    for row_ids in keys(owner, Session):
        query = Session.select(Session.session_id).where(Session.id.in_(row_ids)).order_by(Session.id)
        yield [session_id for (session_id,) in db.reading(lambda query=query: db.tuples(query))]  # type: ignore[misc]


def keys_of_sessions(session_ids: Sequence[str], model: type[Base]) -> Iterator[list[Any]]:
    """The primary keys of the rows of these sessions, of a table that has `sessionId`, some at a time."""
    key: Any = model._meta.primary_key
    query = model.select(key).where(_of(model).session_id.in_(session_ids))
    found = sorted(value for (value,) in db.reading(lambda: db.tuples(query)))
    for start in range(0, len(found), AT_ONCE):
        yield found[start : start + AT_ONCE]


def key_fields(model: type[Base]) -> tuple[Any, ...]:
    """The fields of its primary key."""
    meta: Any = model._meta
    return tuple(meta.get_primary_keys())


def having(model: type[Base], some: Sequence[Any]) -> Any:
    """SQL that holds for the rows with these primary keys."""
    key: Any = model._meta.primary_key
    if not isinstance(key, CompositeKey):
        return key.in_(some)
    condition: Any = None
    for values in some:
        this: Any = None
        for field, value in zip(key_fields(model), values, strict=True):
            this = (field == value) if this is None else this & (field == value)
        condition = this if condition is None else condition | this
    return condition


def _of(model: type[Base]) -> Any:
    # Which fields a model has, its `owned` says.
    return model
