"""Workers that are forked from a Python which has imported the engine: importing takes longer than most tests.

What is forked is a process like any other, with a session, an environment and an output of its own; it runs its module
from the first line and ends as it would. Starting Python itself is what the tests of `make run` and of the worker do.
Where `CRASH_FOLDER` names a folder, its calls can be harmed (`tests.crash.hook`).

    python -m tests.preloaded 3    # takes requests from this socket until it is closed
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.crash import hook
from tests.servers import ROOT, Process, environment_of, guard

_IMPORTED = ("worker.engine.engine", "worker.process", "worker.rq", "pydantic_ai.mcp", "rq.cli")


class PreloadedProcess(Process):
    """`python -m MODULE …`, with the environment that `Process.python` gives."""

    def __init__(self, module: str, *arguments: str, log: Path, environment: Mapping[str, str]) -> None:
        super().__init__([module, *arguments], log=log, environment=environment_of(environment))

    def _begin(self) -> _Forked:
        assert self.environment is not None
        return _server.fork(self.arguments, self.environment)


class _Forked:
    """What the tests need of a `subprocess.Popen`; its parent is another process, which tells how it ended."""

    def __init__(self, stdout: int, status: socket.socket) -> None:
        self._status = status
        self._lock = threading.Lock()
        self.returncode: int | None = None
        self.stdout = open(stdout, "rb", buffering=0)  # noqa: SIM115 - whoever reads it closes it
        self.pid = int(status.recv(32))

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        if (status := self._look(timeout)) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return status

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            # Outside the lock: another thread may look while this one waits.
            readable = select.select([self._status], [], [], timeout)[0] if self._status.fileno() >= 0 else ()
            with self._lock:
                if readable and self.returncode is None:
                    self.returncode = int(self._status.recv(32))
                    self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class _Server:
    """The process that forks, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str]) -> _Forked:
        with self._lock:
            if self._control is None:
                self._start()
            assert self._control is not None
            output, stdout = os.pipe()
            status, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            request = json.dumps([arguments, dict(environment)]).encode()
            socket.send_fds(self._control, [request], [stdout, told.fileno()])
            os.close(stdout)
            told.close()
            return _Forked(output, status)

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.preloaded", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=environment_of({}),
                cwd=ROOT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        guard.tell(f"+{self._process.pid}")

    def close(self) -> None:
        with self._lock:
            if self._control is not None and self._process is not None:
                self._control.close()
                self._process.wait()
                guard.tell(f"-{self._process.pid}")
                self._control = self._process = None


_server = _Server()
close = _server.close


def _serve(control: socket.socket) -> list[str] | None:
    """Fork for each request, until there are no more; in the process that was forked: its arguments."""
    # Nobody waits for the watchers.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, (stdout, told), *_ = socket.recv_fds(control, 1024 * 1024, 2) if _more(control) else (b"", (0, 0))
        if not request:
            return None
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if (pid := os.fork()) == 0:
                control.close()
                arguments, environment = json.loads(request)
                _become(stdout, told, environment)
                return list(arguments)
            os.close(stdout)
            _, status = os.waitpid(pid, 0)
            with contextlib.suppress(OSError):  # the tests are over
                os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        os.close(stdout)
        os.close(told)


def _more(control: socket.socket) -> bool:
    """Wait for a request; False: there is none to come."""
    return bool(control.recv(1, socket.MSG_PEEK))


def _become(stdout: int, told: int, environment: Mapping[str, str]) -> None:
    os.setsid()
    os.dup2(stdout, 1)
    os.dup2(stdout, 2)
    os.close(stdout)
    os.environ.clear()
    os.environ.update(environment)
    os.write(told, str(os.getpid()).encode())
    os.close(told)


def main() -> None:
    gc.disable()
    for name in _IMPORTED:
        importlib.import_module(name)
    # A thread would not be there in what is forked.
    assert threading.active_count() == 1
    gc.collect()
    # What is forked need not look through it again.
    gc.freeze()
    gc.enable()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        arguments = _serve(control)
    if arguments is not None:
        hook.install("worker")
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
