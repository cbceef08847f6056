"""Shows the metrics to Prometheus: of this process or, with PROMETHEUS_MULTIPROC_DIR, of all that share the folder."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, start_http_server
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from . import metrics

logger = logging.getLogger(__name__)

#: The files of a folder that stand for all processes that have ended: no process has this id.
_ENDED = 0


def registry(folder: str) -> CollectorRegistry | Collector:
    """What counts: of the processes that share *folder*; empty: of this one."""
    return MultiProcessCollector(None, folder) if folder else REGISTRY  # type: ignore[no-untyped-call]


def render(folder: str, *also: Collector) -> bytes:
    """The text that Prometheus reads, with what these collectors know beside the instruments."""
    metrics.settle()
    together = CollectorRegistry()
    for each in (registry(folder), *also):
        together.register(each)
    return generate_latest(together)


def serve(host: str, port: int, folder: str) -> WSGIServer | None:
    """Serve the metrics on a thread of its own. A port that can't be had is told and is no failure: None."""
    shown = CollectorRegistry()
    shown.register(registry(folder))
    try:
        server, _ = start_http_server(port, host, shown)
    except OSError as error:
        logger.warning("no metrics are served", extra={"host": host, "port": port, "error": error.strerror})
        return None
    logger.info("metrics are served", extra={"host": host, "port": port})
    return server


def fold_ended(folder: str) -> None:
    """Add the files of processes that have ended into one, and drop their gauges.

    Otherwise each restart leaves some, and every scrape reads them all. Call it when a process starts; the processes
    that share a folder run on one machine, in one namespace of process ids.
    """
    with _one_at_a_time(folder):
        for pid in sorted(_pids(folder)):
            if pid != _ENDED and not _lives(pid):
                mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
                for kind in ("counter", "histogram"):
                    _add(Path(folder, f"{kind}_{pid}.db"), Path(folder, f"{kind}_{_ENDED}.db"))


def _add(ended: Path, total: Path) -> None:
    if not ended.exists():
        return
    values = list(MmapedDict.read_all_values_from_file(str(ended)))  # type: ignore[no-untyped-call]
    # Before it is added: a scrape in between misses it for once, where it would else count it twice.
    ended.unlink()
    into = MmapedDict(str(total))  # type: ignore[no-untyped-call]
    try:
        for key, value, _, _ in values:
            into.write_value(key, into.read_value(key)[0] + value, 0.0)  # type: ignore[no-untyped-call]
    finally:
        into.close()  # type: ignore[no-untyped-call]


def _pids(folder: str) -> set[int]:
    ids = (path.stem.rpartition("_")[2] for path in Path(folder).glob("*_*.db"))
    return {int(each) for each in ids if each.isdecimal()}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _one_at_a_time(folder: str) -> Iterator[None]:
    with open(Path(folder, "fold.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
