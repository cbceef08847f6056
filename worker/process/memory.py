"""Memory that large sessions have freed goes back to the system.

The C library keeps it for later, between pieces that are still in use: a session of hundreds of megabytes would cost
its worker tens of them for good.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: How often to look.
LOOK_S = 10.0
#: So much growth is worth the few milliseconds that giving back takes.
_WORTH_BYTES = 8 * 1024 * 1024


def resident_bytes() -> int:
    """What this process has in memory; 0 where that can't be told."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def give_back() -> None:
    """Return what is free to the system, where the C library can."""
    # A turn that failed is in a circle with its traceback, and the collector looks at what is old almost never.
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Memory:
    """Call `look` now and then, from any thread."""

    def __init__(
        self, *, resident: Callable[[], int] = resident_bytes, give_back: Callable[[], None] = give_back
    ) -> None:
        self._resident = resident
        self._give_back = give_back
        #: What is in use, as far as is known: what was left the last time, or less.
        self._used = 0

    def look(self) -> None:
        """Give back what is free if the process has grown."""
        now = self._resident()
        if now < self._used + _WORTH_BYTES:
            self._used = min(self._used, now)
            return
        self._give_back()
        self._used = self._resident()


async def watch() -> None:
    """Look now and then, for ever."""
    memory = Memory()
    while True:
        await asyncio.sleep(LOOK_S)
        await asyncio.to_thread(memory.look)
