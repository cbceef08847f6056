"""The job: what RQ runs for a session. Its dotted name is in the queue, so that old and new processes share it."""

from __future__ import annotations

import asyncio

from app.settings import Settings, forget_secret

from .process import WorkerProcess


def run_session(session_id: str) -> None:
    """The job: run a session to its end in this process, for the stock `rq worker --serializer json`.

    `SessionWorker` runs the same on its one loop instead, hundreds at a time.
    """

    async def run() -> None:
        settings = Settings.from_environment()
        forget_secret()
        process = WorkerProcess(settings, sweeps=False)
        await process.start()
        try:
            await process.answer(session_id)
        finally:
            await process.close()

    asyncio.run(run())
