"""One process of a run, which ends with it."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time

# The kernel ends the child with its parent; asked for in the child, as its parent may be gone by then.
_TRAMPOLINE = """
import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
except (AttributeError, OSError):
    pass  # not Linux
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Child:
    """One process of the run."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        news: queue.SimpleQueue[Child | int],
        log: int | None = None,
    ) -> None:
        self.name = name
        self._started = time.monotonic()
        #: Once it has ended.
        self.lived_s = 0.0
        trampoline = [sys.executable, "-I", "-c", _TRAMPOLINE, str(os.getpid())]
        self.process = subprocess.Popen(  # noqa: S603 - our own programs
            [*trampoline, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C must reach this process alone, which then stops the others in order.
            start_new_session=True,
        )
        threading.Thread(target=self._wait, args=(news,), daemon=True).start()

    def _wait(self, news: queue.SimpleQueue[Child | int]) -> None:
        self.process.wait()
        self.lived_s = time.monotonic() - self._started
        news.put(self)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def end(self) -> str:
        """How it ended, once it has."""
        status = self.process.returncode
        if status >= 0:
            return f"ended with status {status}"
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"

    def signal(self, number: int) -> None:
        # Already gone is what it should become.
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill_group(self) -> None:
        """End what it may have left in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
