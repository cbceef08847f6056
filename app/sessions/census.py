"""How many sessions run and wait, as the database has it now: for metrics and for whoever runs the deployment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric

from app import db
from app.db.models import Lease, Session
from app.db.times import utc_now
from app.errors import DatabaseUnavailable


@dataclass(frozen=True, slots=True)
class Census:
    """Sessions that have not ended."""

    #: A worker holds them.
    running: int
    #: They could start now, and no worker has taken them.
    queued: int
    #: They wait for an earlier session of their conversation.
    waiting: int
    #: The worker that holds them was judged dead; another one takes them over.
    orphaned: int
    #: Since the POST of the oldest queued one; 0: there is none.
    oldest_queued_s: float
    #: Since a worker last looked for what is left unattended; None: none ever did.
    sweep_age_s: float | None


def take(sweep_s: float) -> Census:
    """Count.

    Args:
        sweep_s: SWEEP_S, which the sweeper's lease is made of.

    Raises:
        DatabaseUnavailable: no connection.
    """
    return db.reading(lambda: _take(sweep_s))


class Gauges:
    """The census as Prometheus is shown it; without a database only that there is none."""

    def __init__(self, sweep_s: float) -> None:
        self._sweep_s = sweep_s

    def collect(self) -> Iterator[Metric]:
        try:
            now = take(self._sweep_s)
        except DatabaseUnavailable:
            now = None
        yield from families_of(now)


def families_of(now: Census | None) -> Iterator[Metric]:
    """The families that Prometheus is shown; None: the database is away."""
    yield _gauge("backchat_database_up", "1: the database could be asked for what follows.", float(now is not None))
    if now is not None:
        sessions = GaugeMetricFamily("backchat_sessions", "Sessions that have not ended.", labels=["state"])
        for state in ("running", "queued", "waiting", "orphaned"):
            sessions.add_metric([state], getattr(now, state))
        yield sessions
        yield _gauge("backchat_oldest_queued_seconds", "Age of the oldest queued session.", now.oldest_queued_s)
        if now.sweep_age_s is not None:
            yield _gauge("backchat_sweep_age_seconds", "Since a worker last swept.", now.sweep_age_s)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _take(sweep_s: float) -> Census:
    clock = db.now_ms().sql
    earlier = (
        "SELECT 1 FROM chatSessions AS e WHERE e.conversationId = s.conversationId AND e.owner = s.owner"
        " AND e.id < s.id AND e.status = 'running'"
    )
    [(running, orphaned, free)] = db.sql(
        f"SELECT COALESCE(SUM(leaseUntilMs >= {clock}), 0), COALESCE(SUM(leaseUntilMs < {clock}), 0),"
        " COALESCE(SUM(leaseUntilMs IS NULL), 0) FROM chatSessions WHERE status = 'running'",
        [],
    ).fetchall()
    [(queued, oldest)] = db.sql(
        "SELECT COUNT(*), MIN(createdAt) FROM chatSessions AS s"
        f" WHERE s.status = 'running' AND s.leaseUntilMs IS NULL AND NOT EXISTS({earlier})",
        [],
    ).fetchall()
    until = db.tuples(Lease.select(Lease.until_ms - db.now_ms()).where(Lease.name == "sweeper"))
    oldest_at = Session.created_at.python_value(oldest)
    return Census(
        running=int(running),
        queued=queued,
        waiting=max(0, int(free) - queued),
        orphaned=int(orphaned),
        oldest_queued_s=max(0.0, (utc_now() - oldest_at).total_seconds()) if oldest_at else 0.0,
        # Each sweep takes the lease for three pauses.
        sweep_age_s=max(0.0, sweep_s * 3 - int(until[0][0]) / 1000) if until else None,
    )
