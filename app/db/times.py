"""Times: now, as the API shows them, and as cursors and parameters hold them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

#: No row has an earlier or later time: TIMESTAMP begins and ends near them.
FIRST_MOMENT = datetime(1970, 1, 2, tzinfo=UTC)
LAST_MOMENT = datetime(2037, 12, 31, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WITH_MILLISECONDS = len("2026-01-31 09:30:00.123")
_MS = timedelta(milliseconds=1)


#: What measuring the database's clock from here may err by.
_NOISE_S = 0.25
#: The database's time at a moment of this process's monotonic clock; None: this machine's clock says the same.
_anchor: tuple[datetime, float] | None = None
#: What this machine's clock was ahead of its monotonic one when it was compared.
_compared_at = 0.0


def utc_now() -> datetime:
    """Now, in UTC, by the clock of the database, cut to the milliseconds that it keeps.

    It is the one clock that all processes share: what one of them stores, others compare.
    """
    now = _machine_now() if _anchor is None else _anchor[0] + timedelta(seconds=time.monotonic() - _anchor[1])
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def follow(database_ms: float, asked_at: float, answered_at: float) -> None:
    """Take over the clock of the database.

    Args:
        database_ms: What it said, in milliseconds since 1970.
        asked_at: When it was asked, in `time.monotonic`.
        answered_at: When the answer came.
    """
    global _anchor, _compared_at
    then = (asked_at + answered_at) / 2
    database = _EPOCH + database_ms * _MS
    machine = _machine_now() - timedelta(seconds=time.monotonic() - then)
    differ_s = abs((database - machine).total_seconds())
    # Clocks that agree stay as they are: times would go back by what the measuring errs.
    _anchor = (database, then) if differ_s > _NOISE_S + (answered_at - asked_at) / 2 else None
    _compared_at = _ahead_of_monotonic()


def has_jumped() -> bool:
    """This machine's clock was set since it was compared with the database's."""
    return abs(_ahead_of_monotonic() - _compared_at) > _NOISE_S


def _ahead_of_monotonic() -> float:
    return _machine_now().timestamp() - time.monotonic()


def _machine_now() -> datetime:
    return datetime.now(UTC)


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 UTC with milliseconds, as the API shows every time."""
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_of(stored: str) -> str:
    """A time as the database gives it, such as `2026-01-31 09:30:00.123` in UTC, as the API shows it."""
    if len(stored) == _WITH_MILLISECONDS:
        return f"{stored[:10]}T{stored[11:]}Z"
    return str(iso(datetime.fromisoformat(stored).replace(tzinfo=UTC)))


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return (moment - _EPOCH) // _MS


def from_ms(milliseconds: int) -> datetime:
    """The time of `to_ms`; what no row can have becomes the last moment."""
    return _EPOCH + min(milliseconds, to_ms(LAST_MOMENT)) * _MS


def within_reach(moment: datetime) -> datetime:
    """*moment*, or the first or last one when no row can have it."""
    return min(max(moment, FIRST_MOMENT), LAST_MOMENT)
