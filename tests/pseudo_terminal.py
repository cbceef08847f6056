"""A command on a terminal of its own, 80 columns wide."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from typing import Self

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)")


def _own_session() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class PseudoTerminal:
    """Runs *command* and keeps what it shows."""

    def __init__(self, command: Sequence[str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        # A session of its own: Ctrl-C reaches it as from a keyboard.
        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=_own_session,
            env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"},
        )
        os.close(slave)
        #: Everything that was shown, with what the terminal obeys.
        self.raw = ""

    @property
    def text(self) -> str:
        """What was shown, without escapes."""
        return _ESCAPES.sub("", self.raw).replace("\r", "")

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, text: str, count: int = 1, timeout_s: float = 60.0) -> None:
        """Return once *text* was shown so many times."""
        deadline = time.monotonic() + timeout_s
        while self.text.count(text) < count:
            assert self._read(deadline), f"{text!r} was not shown: {self.text}"

    def wait(self, timeout_s: float = 60.0) -> int:
        """The status that the command ends with."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        return self._process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        """Take what is shown next; False: nothing comes any more."""
        readable, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(OSError):  # EIO: nobody has it open
            data = os.read(self._master, 65536) if readable else b""
            self.raw += data.decode(errors="replace")
            return bool(data)
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        os.close(self._master)
