"""Fixtures of integration tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app import database
from app.api import create_app
from app.settings import Settings
from tests.conftest import close_all
from tests.model_server import ModelServer
from tests.servers import RedisServer
from tests.stage import Stage


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    """The scripted model server that tests share: each test adds scripts of its own."""
    with ModelServer.start() as server:
        yield server


@pytest.fixture
def make_client(store: str, redis_server: RedisServer) -> Iterator[Callable[..., FlaskClient]]:
    """Makes a client of a web application with these settings; by default on `store` and an empty Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    bound = database.db.obj
    with ExitStack() as stack:

        def make(**fields: Any) -> FlaskClient:
            app = create_app(Settings(**({"database_url": store, "redis_url": redis_server.url} | fields)))
            stack.callback(close_all, database.db.obj)
            return app.test_client()

        yield make
    database.db.initialize(bound)


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
