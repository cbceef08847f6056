"""The nursery: a process that has imported what a worker needs, and forks workers for groups of sessions.

A worker starts one before it has a thread. After the death of another worker it asks for a worker for each group that
`app.sessions.takeover` made, and that one runs what is reserved for it. To import the engine for each would take long.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import select
import signal
import socket
import time

from app import gc
from app.settings import Settings

from . import loop

logger = logging.getLogger(__name__)

#: A message that is no name: its workers hand back what they have.
_STOP = b"\0"
_NAME_BYTES = 512
#: After the grace period of the workers.
_END_S = 20.0


class Nursery:
    """This process's end. Any thread may call its methods."""

    def __init__(self, pid: int, control: socket.socket, stop_grace_s: float) -> None:
        self._pid = pid
        self._control = control
        self._stop_grace_s = stop_grace_s

    @classmethod
    def start(cls, settings: Settings) -> Nursery:
        """Import what workers need, and fork. Call it before there is a thread."""
        importlib.import_module("worker.process.worker_process")
        if not settings.orchestrator:
            # One of somebody's own may start threads as it is imported.
            importlib.import_module("worker.engine.engine")
        gc.keep_what_is_loaded()
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if (pid := os.fork()) == 0:
            try:
                control.close()
                _serve(theirs, settings)
            finally:
                os._exit(os.EX_SOFTWARE)
        theirs.close()
        return cls(pid, control, settings.stop_grace_s)

    def fork(self, name: str) -> None:
        """Start the worker of this name.

        Raises:
            OSError: the nursery is gone.
        """
        self._control.send(name.encode())

    def stop(self) -> None:
        """Its workers end as after a SIGTERM; again: at once."""
        with contextlib.suppress(OSError):
            self._control.send(_STOP)

    def close(self) -> None:
        """End it; returns when its workers have ended."""
        self._control.close()
        deadline = time.monotonic() + self._stop_grace_s + _END_S
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.02)


def _serve(control: socket.socket, settings: Settings) -> None:
    """Fork for each name, until the other end is closed."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Whoever signals a group or a container signals the worker as well, which tells this process.
        signal.signal(number, signal.SIG_IGN)
    children: set[int] = set()
    while True:
        # Looks after the dead from time to time.
        readable = select.select([control], [], [], 1.0 if children else None)[0]
        _bury(children)
        if not readable:
            continue
        message = control.recv(_NAME_BYTES)
        if not message:
            break
        if message == _STOP:
            _end(children, signal.SIGTERM)
        elif (pid := os.fork()) == 0:
            control.close()
            _live(settings, message.decode())
        else:
            children.add(pid)
    # The worker is gone, by itself or not.
    _end(children, signal.SIGTERM)
    deadline = time.monotonic() + settings.stop_grace_s + _END_S / 2
    while children and time.monotonic() < deadline:
        time.sleep(0.02)
        _bury(children)
    _end(children, signal.SIGKILL)


def _bury(children: set[int]) -> None:
    for pid in list(children):
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            children.discard(pid)


def _end(children: set[int], number: signal.Signals) -> None:
    for pid in children:
        os.kill(pid, number)


def _live(settings: Settings, name: str) -> None:
    """The worker of one group, in a process of its own; never returns."""
    status = os.EX_SOFTWARE
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        loop.run(_work(settings, name))
        status = os.EX_OK
    except BaseException:
        logger.critical("the worker of a group broke", exc_info=True, extra={"worker": name})
    finally:
        logging.shutdown()
        os._exit(status)


async def _work(settings: Settings, name: str) -> None:
    """Run the sessions that are reserved for this worker."""
    from .process.worker_process import WorkerProcess

    stopping, hurry = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (hurry if stopping.is_set() else stopping).set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    process = WorkerProcess(settings, name=name, sweeps=False, of_group=True, give_up=lambda: os._exit(os.EX_SOFTWARE))
    try:
        await process.start()
        process.when_broken(lambda _: hurry.set())
        running = asyncio.create_task(process.run_reserved())
        await _first(running, stopping, hurry)
        if not running.done():
            draining = asyncio.create_task(process.drain(settings.stop_grace_s))
            await _first(draining, hurry)
            if not draining.done():
                await process.drain(0.0)
            await asyncio.wait({running, draining}, timeout=_END_S / 4)
    finally:
        await process.close()


async def _first(task: asyncio.Task[None], *events: asyncio.Event) -> None:
    """Return when the task is done or one of the events has come."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait({task, *waits}, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
