"""Times: now, as the API shows them, and as cursors and parameters hold them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

#: No row has an earlier or later time: TIMESTAMP begins and ends near them.
FIRST_MOMENT = datetime(1970, 1, 2, tzinfo=UTC)
LAST_MOMENT = datetime(2037, 12, 31, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WITH_MILLISECONDS = len("2026-01-31 09:30:00.123")
_MS = timedelta(milliseconds=1)


def utc_now() -> datetime:
    """Now, in UTC, cut to the milliseconds that the database keeps."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


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
