"""The web process: `gunicorn app.wsgi:app`."""

from __future__ import annotations

from .api import create_app
from .settings import Settings

app = create_app(Settings.from_environment())
