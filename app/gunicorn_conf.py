"""gunicorn's settings: `gunicorn -c python:app.gunicorn_conf app.wsgi:app`."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
import tempfile
import time
from typing import Any

import gevent
from gunicorn.glogging import Logger

from app.errors import BackchatError
from app.settings import Settings

from . import gc
from .observability import logs


def _heartbeat_folder() -> str:
    """Where workers show that they live, many times a minute: in memory, else wherever a file can be made.

    Raises:
        BackchatError: nowhere can one be made.
    """
    if os.access("/dev/shm", os.W_OK | os.X_OK):  # noqa: S108 - the file has a name that nobody can guess
        return "/dev/shm"  # noqa: S108
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        raise BackchatError("no folder for temporary files can be written; mount a tmpfs on /tmp") from None


def _raise_descriptor_limit() -> None:
    """Each connection takes a descriptor, and shells allow 1024 of many more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# Before the settings are read: what they warn of has to be seen whole.
logs.configure("WARNING")
_own_folder = ""
try:
    _settings = Settings.from_environment()
    _settings.require_metrics_folder()
    worker_tmp_dir = _heartbeat_folder()
    if _settings.web_workers > 1 and not _settings.prometheus_multiproc_dir:
        # Before the metrics are imported: each process would show what it has done itself, and no scrape all of it.
        _own_folder = tempfile.mkdtemp(prefix=f"backchat-metrics-{os.getpid()}-", dir=worker_tmp_dir)
        _settings = _settings.sharing_metrics(_own_folder)
except BackchatError as error:
    print(f"web: {error.detail}", file=sys.stderr, flush=True)
    sys.exit(os.EX_CONFIG)
logs.configure(_settings.log_level, _settings.log_format)

bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = _settings.web_workers
# One greenlet for each held request: thousands of them wait in one process.
worker_class = "app.gunicorn_worker.ProblemWorker"
# More than may be idle: those that wait for a place could not even ask whether the server is alive.
worker_connections = 20_000
_raise_descriptor_limit()
backlog = 4096
# A client behind a slow proxy keeps its connection between two polls.
keepalive = 30
# Held polls are cut off, not waited for: their clients ask again.
graceful_timeout = 5
timeout = 60
# The control socket would let whoever reaches it stop workers.
control_socket_disable = True
# From a proxy on loopback gunicorn would take SCRIPT_NAME, which is what its client sent; URL_PREFIX says it instead.
forwarder_headers = ""


class _Logger(Logger):  # type: ignore[misc]
    """No access log: making its fields costs a poll as much as its answer."""

    def _compute_access_log_enabled(self) -> bool:
        return False


logger_class = _Logger
logconfig_dict = logs.configuration(_settings.log_level, _settings.log_format)


def post_worker_init(worker: Any) -> None:
    """This process has imported all that it needs."""
    if _settings.prometheus_multiproc_dir:
        from app.observability import exposition

        exposition.fold_ended(_settings.prometheus_multiproc_dir)
    gc.keep_what_is_loaded()
    gevent.spawn(_watch_the_loop)


def _watch_the_loop() -> None:
    from app.observability import metrics

    while True:
        due = time.monotonic() + 1.0
        gevent.sleep(1.0)
        metrics.LOOP_LAG_SECONDS.labels("web").observe(max(0.0, time.monotonic() - due))
        metrics.settle()


def child_exit(server: Any, worker: Any) -> None:
    """A process that has ended counts in no gauge any more."""
    if _settings.prometheus_multiproc_dir:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    """The last process that shared the folder has ended."""
    # No finaliser: each process that was forked would run it.
    if _own_folder:
        shutil.rmtree(_own_folder, ignore_errors=True)
