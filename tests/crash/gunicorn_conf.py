"""The settings of web processes whose calls are counted: gunicorn's of the application, and the hook."""

from __future__ import annotations

from typing import Any

from app import gunicorn_conf
from app.gunicorn_conf import *  # noqa: F403 - gunicorn reads its settings from here


def post_worker_init(worker: Any) -> None:
    from tests.crash import hook

    hook.install("web")
    gunicorn_conf.post_worker_init(worker)
