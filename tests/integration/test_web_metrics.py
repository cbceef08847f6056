"""Several web processes count together, also after one of them was killed."""

from __future__ import annotations

import glob
import http.client
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.counted import families
from tests.servers import Process, free_port, wait_until

HEALTHZ = "backchat_http_requests_total", "GET", "/healthz", "200"


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def answers(port: int) -> bool:
    try:
        return get(port, "/healthz") != b""
    except OSError:
        return False


def test_web_processes_count_together_and_nothing_is_lost_with_one_that_is_killed(
    make_process: Callable[..., Process], tmp_path: Path
) -> None:
    port = free_port()
    environment = {"DATABASE_URL": f"sqlite:///{tmp_path / 'backchat.db'}", "REDIS_URL": "redis://127.0.0.1:1/0"}
    assert make_process("-m", "app.cli", "migrate", **environment).wait() == 0
    gunicorn = ("-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app")
    web = make_process(*gunicorn, PORT=str(port), WEB_WORKERS="2", **environment)
    wait_until(lambda: answers(port), "the API answers")
    workers = [child.pid for child in psutil.Process(web.pid).children()]
    folder = [path for place in ("/dev/shm", "/tmp") for path in glob.glob(f"{place}/backchat-metrics-{web.pid}-*")]
    before = families(get(port, "/metrics"))["backchat_http_requests"][HEALTHZ]

    for _ in range(20):
        get(port, "/healthz")
    counted = families(get(port, "/metrics"))["backchat_http_requests"][HEALTHZ]
    os.kill(workers[0], signal.SIGKILL)
    web.wait_for_line("Booting worker", count=3)
    wait_until(lambda: any(name.endswith("_0.db") for name in os.listdir(folder[0])), "its files to be folded")

    assert counted == before + 20
    assert families(get(port, "/metrics"))["backchat_http_requests"][HEALTHZ] == counted
    web.signal(signal.SIGTERM)
    web.wait()
    assert not os.path.exists(folder[0])
