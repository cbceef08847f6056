"""The web process: `gunicorn -c python:app.gunicorn_conf app.wsgi:app`."""

from __future__ import annotations

import sys

from .api import create_app
from .db.errors import in_full
from .errors import BackchatError
from .settings import Settings

#: gunicorn gives up on this status; any other makes it start the process again and again.
_GIVE_UP = 4

try:
    _settings = Settings.from_environment()
    if not _settings.redis_url:
        raise BackchatError("REDIS_URL is not set; `make run` brings a broker of its own")
    app = create_app(_settings)
except BackchatError as error:
    print(f"web: {in_full(error)}", file=sys.stderr, flush=True)
    sys.exit(_GIVE_UP)
