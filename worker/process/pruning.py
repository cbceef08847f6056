"""Prunes at the start and then from time to time."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from app.errors import DatabaseUnavailable
from app.history.retention import LEASE_S, Pruner
from app.observability import metrics

logger = logging.getLogger(__name__)


async def prune_for_ever(pruner: Pruner, thread: ThreadPoolExecutor, interval_s: float) -> None:
    """Prune on *thread* each *interval_s*; sooner where another process did, or the database was away."""
    while True:
        pause_s = interval_s
        try:
            if not await asyncio.get_running_loop().run_in_executor(thread, pruner.prune):
                pause_s = min(pause_s, LEASE_S)
        except DatabaseUnavailable:
            pause_s = min(pause_s, LEASE_S)
        except Exception:
            metrics.BACKGROUND_FAILURES.labels("retention").inc()
            logger.exception("pruning failed")
        await asyncio.sleep(pause_s)
