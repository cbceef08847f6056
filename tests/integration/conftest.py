"""Fixtures of integration tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from apiflask import APIFlask
from flask.testing import FlaskClient

from app import db
from app.api import create_app
from app.settings import Settings
from tests import original_database
from tests.commands import Run, runner
from tests.conftest import close_all
from tests.servers import RedisServer
from tests.stage import Stage


@pytest.fixture(scope="session")
def _idle_applications() -> defaultdict[str, list[APIFlask]]:
    """Applications that no test uses now, by their settings."""
    return defaultdict(list)


@pytest.fixture
def run(store: str, redis_server: RedisServer) -> Run:
    """Runs a command of the command line on `store` and an empty Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return runner(DATABASE_URL=store, REDIS_URL=redis_server.url)


@pytest.fixture
def make_client(
    store: str, redis_server: RedisServer, _idle_applications: defaultdict[str, list[APIFlask]]
) -> Iterator[Callable[..., FlaskClient]]:
    """Makes a client of a web application with these settings; by default on `store` and an empty Redis.

    Each stands for a process of its own. Tests on `store` share them one after the other: they hold nothing that ages
    badly, and making one takes longer than most tests.
    """
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    bound = db.database.obj
    with ExitStack() as stack:

        def make(**fields: Any) -> FlaskClient:
            fields = {"database_url": store, "redis_url": redis_server.url} | fields
            if fields["database_url"] != store:
                app = create_app(Settings(**fields))
                stack.callback(close_all, db.database.obj)
                return app.test_client()
            idle = _idle_applications[repr(sorted(fields.items()))]
            if not idle:
                idle.append(create_app(Settings(**fields)))
                close_all(db.database.obj)
            db.database.initialize(bound)
            app = idle.pop()
            stack.callback(idle.append, app)
            return app.test_client()

        yield make
    db.database.initialize(bound)


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client()


@pytest.fixture
def make_stage(store: str, redis_server: RedisServer, make_client: Callable[..., FlaskClient]) -> Callable[..., Stage]:
    """Makes the API on the test's database, with settings as given."""

    def make(**fields: Any) -> Stage:
        fields = {"database_url": store, "redis_url": redis_server.url} | fields
        return Stage(make_client(**fields), Settings(**fields))

    return make


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    """The API on the test's database."""
    return make_stage()


@pytest.fixture
def original(database_url: str) -> Iterator[str]:
    """A database of the first deployment, with its rows."""
    made = db.open_database(database_url)
    with db.connected():
        original_database.create_tables(made)
        original_database.fill(made)
    yield database_url
    close_all(made)
