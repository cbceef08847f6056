"""Print the OpenAPI document: `python -m app.api`."""

from __future__ import annotations

import json
from tempfile import TemporaryDirectory

from app import db
from app.db import schema

from ..settings import Settings
from . import create_app

with TemporaryDirectory() as folder:
    settings = Settings(database_url=f"sqlite:///{folder}/empty.db", redis_url="redis://127.0.0.1")
    db.open_database(settings.database_url)
    schema.migrate()
    print(json.dumps(create_app(settings).spec, indent=2, ensure_ascii=False))
