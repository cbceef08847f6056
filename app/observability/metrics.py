"""Every instrument that Prometheus is shown; docs/operate.md says what each means and when to worry.

Labels are bounded: no owner, session or text of a caller is one. What happens often is counted where it is gathered,
once for each flush, request or answer, never for each delta.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

# A series more for each counter and histogram, which nobody looks at.
disable_created_metrics()  # type: ignore[no-untyped-call]

OTHER = "other"
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


class Names:
    """The values that one label may have: those it was told of and, up to *also*, what comes; else `other`."""

    def __init__(self, *, also: int = 0) -> None:
        self._known: set[str] = set()
        self._left = also

    def know(self, names: Iterable[str]) -> None:
        """These values are configured: there are few of them."""
        self._known.update(names)

    def label(self, name: str) -> str:
        """*name*, if it may be a label."""
        if name in self._known:
            return name
        if self._left <= 0 or not _NAME.fullmatch(name):
            return OTHER
        self._left -= 1
        self._known.add(name)
        return name


class Tally:
    """Counts for *counter* what happens too often to tell it each time. Of one event loop."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        #: What the counter was not told yet; whoever counts raises it.
        self.n = 0
        _tallies.append(weakref.ref(self))

    def settle(self) -> None:
        n, self.n = self.n, 0
        if n:
            self._counter.inc(n)


_tallies: list[weakref.ref[Tally]] = []


def settle() -> None:
    """Tell the counters what was tallied: call it each second, and before the metrics are shown."""
    for tally in _tallies:
        if (kept := tally()) is not None:
            kept.settle()


#: Models that are configured.
MODELS = Names()
#: Tools have the names that agents and their MCP servers give them.
TOOLS = Names(also=100)
#: Orchestrators of others have codes of their own.
ERROR_CODES = Names(also=60)

_QUICK_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_RUN_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)

# Sessions

SESSIONS_STARTED = Counter("backchat_sessions_started", "Sessions that were accepted and committed.")
#: `error_code` is empty for those that are done.
SESSIONS_ENDED = Counter(
    "backchat_sessions_ended", "Sessions that have ended, whoever ended them.", ["status", "error_code"]
)
CLAIM_SECONDS = Histogram("backchat_session_claim_seconds", "From the POST to the first claim.", buckets=_RUN_S)
FIRST_TEXT_SECONDS = Histogram(
    "backchat_session_first_text_seconds", "From the POST to the first text of the answer.", buckets=_RUN_S
)
SESSION_SECONDS = Histogram("backchat_session_seconds", "From the POST to the end.", buckets=_RUN_S)
#: `kind`: `first`, `handed_back` (of a worker that stopped), `taken_over` (of one that died).
CLAIMS = Counter("backchat_claims", "Attempts that workers began.", ["kind"])
TAKEOVERS = Counter("backchat_takeovers", "Sessions taken from a worker that was judged dead.", ["cause"])
HAND_BACKS = Counter("backchat_hand_backs", "Sessions that stopping workers gave back.")
FENCED = Counter("backchat_fenced", "Attempts that wrote no more: taken over, cancelled, ended or deleted meanwhile.")
WORKER_SESSIONS = Gauge(
    "backchat_worker_sessions", "Sessions that this worker runs at the moment.", multiprocess_mode="livesum"
)

# The event writer

FLUSH_SECONDS = Histogram("backchat_flush_seconds", "Time of a flush of the event writer.", buckets=_QUICK_S)
FLUSH_EVENTS = Histogram(
    "backchat_flush_events", "Events that a flush wrote.", buckets=(1, 3, 10, 30, 100, 300, 1000, 3000)
)
FLUSH_FAILURES = Counter("backchat_flush_failures", "Flushes that the database was not there for.")
UNWRITTEN_EVENTS = Gauge(
    "backchat_unwritten_events", "Events that waited for the newest flush.", multiprocess_mode="livesum"
)

# Models and tools

#: `outcome`: `ok`, `stopped`, or the code of the failure.
MODEL_REQUESTS = Counter("backchat_model_requests", "Requests to models.", ["model", "outcome"])
MODEL_REQUEST_SECONDS = Histogram(
    "backchat_model_request_seconds", "From a request to a model to the end of its answer.", ["model"], buckets=_RUN_S
)
#: `kind`: `input`, `output`, `cache_read`, `cache_write`; the last two are parts of the input.
MODEL_TOKENS = Counter("backchat_model_tokens", "Tokens as providers count them.", ["model", "kind"])
#: `outcome`: `success`, `failed`, `retried` (the model called it wrongly), `stopped`.
TOOL_CALLS = Counter("backchat_tool_calls", "Calls of tools.", ["tool", "outcome"])

# HTTP

HTTP_REQUESTS = Counter("backchat_http_requests", "Requests by route.", ["method", "route", "status"])
HTTP_REQUEST_SECONDS = Histogram(
    "backchat_http_request_seconds", "Time of requests that were not held.", ["route"], buckets=_QUICK_S
)
HELD_REQUESTS = Gauge(
    "backchat_held_requests", "Held polls and streams that wait for news.", multiprocess_mode="livesum"
)

# What the processes stand on

DATABASE_CONNECTIONS = Gauge(
    "backchat_database_connections", "Connections to the database in use.", multiprocess_mode="livesum"
)
DATABASE_WAITS = Counter("backchat_database_waits", "Times that all connections to the database were in use.")
DATABASE_WAIT_SECONDS = Counter("backchat_database_wait_seconds", "Time waited for one of them.")
DATABASE_ERRORS = Counter("backchat_database_errors", "Times that the database could not be reached.")
#: `work`: `queue` (rings, stops), `heads` (what polls look at), `jobs`, `registries`, `commands`, `news`.
REDIS_ERRORS = Counter("backchat_redis_errors", "Times that Redis could not be reached.", ["work"])
#: `process`: `web`, `worker`.
LOOP_LAG_SECONDS = Histogram(
    "backchat_loop_lag_seconds", "How late a timer of one second fires.", ["process"], buckets=_QUICK_S
)
#: `work`: `sweeper`, `leases`, `retention`, …
BACKGROUND_FAILURES = Counter("backchat_background_failures", "Rounds of background work that failed.", ["work"])
#: `reason` is the setting that asked for it.
EVENTS_PRUNED = Counter("backchat_events_pruned", "Rows that retention has deleted.", ["reason", "table"])
