"""gunicorn's settings: `gunicorn -c python:app.gunicorn_conf app.wsgi:app`."""

from __future__ import annotations

from app.settings import Settings

_settings = Settings.from_environment()

bind = f"{_settings.host}:{_settings.port}"
workers = _settings.web_workers
# One greenlet for each held request: thousands of them wait in one process.
worker_class = "gevent"
worker_connections = 10_000
backlog = 4096
# The control socket would let whoever reaches it stop workers.
control_socket_disable = True
graceful_timeout = 5
timeout = 60
