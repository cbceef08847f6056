"""The health check of a container."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from app.check import main
from tests.servers import free_port


@pytest.fixture
def serve() -> Iterator[Callable[[int], int]]:
    """Starts what answers `/healthz` with this status; returns its port."""
    with ExitStack() as stack:

        def start(status: int) -> int:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    self.send_response(status if self.path == "/healthz" else 404)
                    self.end_headers()

                def log_message(self, *_: object) -> None: ...

            server = stack.enter_context(HTTPServer(("127.0.0.1", 0), Handler))
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
            stack.callback(server.shutdown)
            return server.server_port

        yield start


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Exit status and output of a check."""

    def run(*arguments: str, **environment: str) -> tuple[int, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return main(list(arguments)), capsys.readouterr().err

    return run


def test_a_web_process_that_answers_is_well(serve: Callable[[int], int], check: Callable[..., tuple[int, str]]) -> None:
    # As in a container, where it listens everywhere.
    assert check("web", HOST="0.0.0.0", PORT=str(serve(200))) == (0, "")


@pytest.mark.parametrize("status", [500, None])
def test_a_web_process_that_does_not_answer_is_not_well(
    serve: Callable[[int], int], check: Callable[..., tuple[int, str]], status: int | None
) -> None:
    checked, told = check("web", PORT=str(free_port() if status is None else serve(status)))

    assert checked == 1
    assert told.startswith("web: ")


@pytest.mark.parametrize("redis_url", ["redis"], indirect=True)
def test_a_worker_that_redis_has_not_heard_of_is_not_well(
    redis_url: str, check: Callable[..., tuple[int, str]]
) -> None:
    assert check("worker", REDIS_URL=redis_url) == (1, "worker: Redis has not heard of it lately\n")


@pytest.mark.parametrize("url", ["", "nonsense", "redis://127.0.0.1:1/0"])
def test_without_a_redis_that_can_be_asked_the_worker_is_not_well(
    check: Callable[..., tuple[int, str]], url: str
) -> None:
    checked, told = check("worker", REDIS_URL=url)

    assert checked == 1
    assert told.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("database",), ("web", "worker")])
def test_a_check_of_something_else_is_a_mistake(
    check: Callable[..., tuple[int, str]], arguments: tuple[str, ...]
) -> None:
    assert check(*arguments) == (2, "usage: python -m app.check web|worker\n")
