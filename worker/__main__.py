"""The worker process: `python -m worker`."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

from app import gc
from app.errors import BackchatError, DatabaseUnavailable
from app.observability import logs
from app.settings import Settings, forget_secret

from . import loop
from .nursery import Nursery

logger = logging.getLogger(__name__)


async def work(settings: Settings, nursery: Nursery) -> None:
    """Run sessions until SIGTERM or SIGINT.

    Raises:
        SchemaOutdated: the database must be migrated first; the message names the command.
        DatabaseUnavailable: it can't be reached at the start.
        Invalid: a setting can't be used.
        Exception: a part that all sessions depend on has failed; they were handed back.
    """
    # After the settings: prometheus-client looks into the environment as it is imported.
    from app.observability import exposition, tracing

    from .process.worker_process import WorkerProcess
    from .rq import SessionWorker

    folder, address = settings.prometheus_multiproc_dir, settings.metrics_address
    if folder:
        exposition.fold_ended(folder)
    tracing.start(settings)
    if address is not None:
        exposition.serve(*address, folder)

    async def drain(grace_s: float) -> None:
        nursery.stop()
        await process.drain(grace_s)

    process = WorkerProcess(settings, fork=nursery.fork, give_up=lambda: os._exit(os.EX_SOFTWARE))
    try:
        await process.start()
        worker = SessionWorker(
            settings.redis_url,
            process.answer,
            drain,
            concurrency=settings.worker_concurrency,
            name=process.name,
            stop_grace_s=settings.stop_grace_s,
        )
        process.when_broken(worker.fail)
        gc.keep_what_is_loaded()
        await worker.serve()
    finally:
        await process.close()
        tracing.stop()


def main() -> None:
    """Exit status: 0 stopped, 69 no database, 70 it broke, 78 the configuration or the schema is not right."""
    gc.rest_while_loading()
    # The threads that talk to Redis and the database wait for the loop after each answer; 5 ms, Python's default,
    # would make starting hundreds of sessions take seconds.
    sys.setswitchinterval(0.0005)
    # Before the settings are read: what they warn of has to be seen.
    logs.configure("WARNING")
    try:
        settings = Settings.from_environment()
        forget_secret()
        settings.require_metrics_folder()
        logs.configure(settings.log_level, settings.log_format)
        if not settings.redis_url:
            raise BackchatError("REDIS_URL is not set; `make run` brings a broker of its own")
        nursery = Nursery.start(settings)
        try:
            loop.run(work(settings, nursery))
        except Exception:
            # Nobody waits for the grace period of its workers.
            nursery.stop()
            nursery.stop()
            raise
        finally:
            nursery.close()
    except DatabaseUnavailable as error:
        from app.db.errors import in_full  # not before the settings: what it imports opens the files of the metrics

        _give_up(in_full(error), os.EX_UNAVAILABLE)
    except BackchatError as error:
        _give_up(error.detail, os.EX_CONFIG)
    except Exception:
        logger.critical("the worker broke", exc_info=True)
        logging.shutdown()
        # Python would wait for the threads first, and one of them may never return.
        os._exit(os.EX_SOFTWARE)


def _give_up(why: str, status: int) -> NoReturn:
    print(f"worker: {why}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
