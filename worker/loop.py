"""The event loop of a worker process, which goes on whatever the code of one session does to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run *main* to its end on a loop of its own, as `asyncio.run` does.

    There, `loop.stop()` or a KeyboardInterrupt or SystemExit from any task or callback ends all the others. Here it is
    logged, and they go on.

    Raises:
        KeyboardInterrupt: Ctrl-C, before *main* listens for it by itself.
    """
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        interrupted = False

        def interrupt(number: int, frame: FrameType | None) -> None:
            nonlocal interrupted
            interrupted = True
            loop.call_soon_threadsafe(task.cancel)

        with contextlib.suppress(ValueError):  # only the main thread hears signals
            signal.signal(signal.SIGINT, interrupt)
        while not task.done():
            try:
                loop.run_until_complete(task)
            except BaseException as error:
                if task.done():
                    break
                # A RuntimeError: the loop was stopped.
                logger.error("the code of a session tried to end the worker", exc_info=error)
        if interrupted and task.cancelled():
            raise KeyboardInterrupt
        task.result()
