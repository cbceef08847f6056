"""Sessions: one background run each, from the POST to its end.

    state     row: status, leaseUntilMs    what enters            what leaves              what a crash does
    queued    running, null                create, hand_back      claim, end               waits; the sweeper rings
    held      running, HELD                claim                  commit, hand_back, end,  its worker is marked dead
                                                                  take_over
    reserved  running, RESERVED            take_over              claim by its worker,     its worker is marked dead
                                                                  end, take_over
    orphaned  running, ORPHANED            take_over              claim (next attempt),    stays; the sweeper rings
                                                                  end (`worker_lost`)
    ended     done | error, null           commit, end            delete                   stays

Workers live while their heartbeats move (`app.db.heartbeats`). Once one is marked dead, what it holds is taken over:
reserved for workers of a few sessions each that are started for it, so that one which kills its worker is found.

A state moves under the lock of its row: `creation` makes sessions, `lifecycle` ends them, `interrupts` many of them,
`claims` takes them for a worker, `takeover` from a dead one, `commit` stores what their runs say. Whoever comes second
finds the row changed and does nothing.

Locks are taken in one order everywhere: a dead worker, conversations in id order, then sessions in id order, then
agents' counts.
"""

from .creation import IDEMPOTENCY_KEPT, Created, NewSession, OnBusy, create
from .lifecycle import Ended, end, end_attempt, end_orphaned, end_overdue

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
