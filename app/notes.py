"""Notes: which sessions' own code runs in a worker right now, in a mapped file that outlives the process.

The kernel writes it whatever ends the process, and frees the lock on it: whoever gets that lock knows that the process
has ended, and reads at whose code. Files are of one machine and one user, and hold nothing but the numbers of rows.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path

#: Numbers in the file: why the worker ended, the session on the loop, those on threads.
_NUMBERS = 512
_CAUSE, _LOOP, _THREADS = 0, 1, 2
_BYTES = _NUMBERS * 8
#: What a worker may say of its own end, by number; 0: nothing.
STOPPED = "worker stopped"
BLOCKED = "loop blocked"
_CAUSES = (None, STOPPED, BLOCKED)
_SAFE = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class Left:
    """What a process that has ended left."""

    suspects: tuple[int, ...]
    #: Why it ended, if it could say.
    cause: str | None


class Notes:
    """The notes of this process, under the name of its worker.

    Where no file can be made they are nobody's to read, and the worker works on.
    """

    def __init__(self, name: str) -> None:
        self._path: Path | None = None
        self._file = -1
        with contextlib.suppress(OSError):
            self._open(_path(name))
        self._map = mmap.mmap(self._file, _BYTES) if self._path else mmap.mmap(-1, _BYTES)
        #: By index: `LOOP`, or what `take_place` gave; a session's row, or 0.
        self.numbers = memoryview(self._map).cast("Q")
        self._places = deque(range(_THREADS, _NUMBERS))

    def _open(self, path: Path) -> None:
        # Locked before it has its name: nobody finds it without its lock and takes this process for dead.
        unnamed = path.with_name(f".{path.name}")
        self._file = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(self._file, _BYTES)
        unnamed.rename(path)
        self._path = path

    def take_place(self) -> int | None:
        """An index for a thread; None: there is none left."""
        try:
            return self._places.popleft()
        except IndexError:
            return None

    def give_back(self, place: int) -> None:
        self.numbers[place] = 0
        self._places.append(place)

    @property
    def on_loop(self) -> int:
        """The session whose code is on the loop now, or 0."""
        return int(self.numbers[LOOP])

    def suspects(self) -> list[int]:
        """The sessions whose code runs now."""
        return sorted({number for number in self.numbers[LOOP:] if number})

    def ends_because(self, cause: str) -> None:
        """Say why this process is about to end."""
        self.numbers[_CAUSE] = _CAUSES.index(cause)

    def close(self, *, keep: bool = False) -> None:
        """Free the lock; *keep* the file for whoever looks after what the worker left."""
        if self._path is not None and not keep:
            self._path.unlink(missing_ok=True)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


LOOP = _LOOP


def left_by(name: str) -> Left | None:
    """What the process of this worker left; None: it lives, or was not of this machine."""
    return _read(name, unlocked=True)


def suspects_of(name: str) -> tuple[int, ...] | None:
    """The sessions whose own code runs in this worker now, or did when it ended; None: it is not of this machine."""
    noted = _read(name, unlocked=False)
    return None if noted is None else noted.suspects


def _read(name: str, *, unlocked: bool) -> Left | None:
    try:
        file = os.open(_path(name), os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if unlocked:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        raw = os.pread(file, _BYTES, 0)
    except OSError:
        return None
    finally:
        os.close(file)
    if len(raw) < _BYTES:
        return Left((), None)
    numbers = memoryview(raw).cast("Q")
    cause = _CAUSES[numbers[_CAUSE]] if numbers[_CAUSE] < len(_CAUSES) else None
    return Left(tuple(sorted({number for number in numbers[_LOOP:] if number})), cause)


def forget(name: str) -> None:
    """Remove what a dead worker left."""
    with contextlib.suppress(OSError):
        _path(name).unlink(missing_ok=True)


def _path(name: str) -> Path:
    """The file of this worker.

    Raises:
        OSError: the folder is not this user's own.
    """
    folder = Path(tempfile.gettempdir()) / f"backchat-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise OSError(f"{folder} is somebody else's")
    return folder / _SAFE.sub("_", name)[:200]
