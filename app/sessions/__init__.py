"""Sessions: one background run each, from the POST to its end.

    state     row                          what enters            what leaves              what a crash does
    queued    running, no lease            create, hand_back      claim, end               waits; the sweeper rings
    claimed   running, lease ahead         claim                  commit, hand_back, end,  its lease runs out
                                                                  lease runs out
    orphaned  running, lease run out       its worker's death     claim (next attempt),    stays; the sweeper rings
                                                                  end (`worker_lost`)
    ended     done | error                 commit, end            delete                   stays

A state moves under the lock of its row: `lifecycle` makes and ends sessions, `claims` takes them for a worker, `commit`
stores what their runs say. Whoever comes second finds the row changed and does nothing.

Locks are taken in one order everywhere: conversations in id order, then sessions in id order, then agents' counts.
"""

from .lifecycle import (
    IDEMPOTENCY_KEPT,
    Created,
    Ended,
    NewSession,
    OnBusy,
    create,
    end,
    end_attempt,
    end_orphaned,
    end_overdue,
)

__all__ = [
    "IDEMPOTENCY_KEPT",
    "Created",
    "Ended",
    "NewSession",
    "OnBusy",
    "create",
    "end",
    "end_attempt",
    "end_orphaned",
    "end_overdue",
]
