"""What is counted for Prometheus by the processes that do the work."""

from __future__ import annotations

from prometheus_client import Counter

#: `reason` is the setting that asked for it.
EVENTS_PRUNED = Counter("backchat_events_pruned", "Rows that retention has deleted.", ["reason", "table"])
