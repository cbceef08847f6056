"""Fixtures of integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model_server import ModelServer


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    """The scripted model server that tests share: each test adds scripts of its own."""
    with ModelServer.start() as server:
        yield server
