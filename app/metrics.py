"""What is counted for Prometheus by the processes that do the work."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

#: `reason` is the setting that asked for it.
EVENTS_PRUNED = Counter("backchat_events_pruned", "Rows that retention has deleted.", ["reason", "table"])

HELD_REQUESTS = Gauge(
    "backchat_held_requests", "Held polls and streams that wait for news.", multiprocess_mode="livesum"
)
