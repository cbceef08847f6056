"""What arrives too slowly, or is no HTTP, costs its own connection and tells nobody what it held."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gunicorn.http import errors
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.unreader import SocketUnreader
from werkzeug.exceptions import RequestTimeout

from app.gunicorn_worker import ProblemWorker, _InTime, _pass_over


class Slow:
    """Gives a byte at a time, for as long as somebody reads."""

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s

    def read(self, size: int) -> bytes:
        gevent.sleep(self.pause_s)
        return b"x"


def test_a_body_that_trickles_in_is_given_up_when_its_time_is_over() -> None:
    body = _InTime(Slow(0.01), limit_s=0.1)

    with gevent.Timeout(10), pytest.raises(RequestTimeout):
        all(body.read(1) for _ in range(1_000_000))


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    with gevent.Timeout(10), pytest.raises(RequestTimeout, match="did not arrive"):
        _InTime(Slow(60), limit_s=0.05).read(1)


class Connection:
    """Has a megabyte for whoever reads, as much at once as is asked for but 64 KiB at most."""

    def __init__(self, length: int) -> None:
        self.left = length
        self.reads = 0

    def recv(self, size: int) -> bytes:
        self.reads += 1
        taken = min(size, self.left, 65_536)
        self.left -= taken
        return b"x" * taken


class Counted:
    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.length = reader.length
        self.reads = 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        return bytes(self._reader.read(size))


def test_what_nobody_reads_is_passed_over_in_large_pieces_and_others_are_answered_in_between() -> None:
    connection = Connection(5 << 20)
    reader = Counted(LengthReader(SocketUnreader(connection), 5 << 20))
    answered: list[int] = []

    def others() -> None:
        while connection.left:
            answered.append(connection.left)
            gevent.sleep(0)

    other = gevent.spawn(others)
    _pass_over(Body(reader))
    other.join()

    assert connection.left == 0
    # For each piece gunicorn copies all that has arrived.
    assert reader.reads <= 6
    assert len(answered) >= 3


def test_what_nobody_reads_and_does_not_arrive_closes_the_connection() -> None:
    reader = _InTime(Slow(60), limit_s=0.05)

    with gevent.Timeout(10), pytest.raises(StopIteration):
        _pass_over(Body(reader))


def test_a_body_in_time_is_read() -> None:
    assert _InTime(Slow(0), limit_s=30).read(1) == b"x"


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequestLine("GET /?token=s3cret"),
        errors.InvalidRequestMethod("s3cret"),
        errors.InvalidHTTPVersion("s3cret"),
        errors.InvalidHeader("Authorization s3cret"),
        errors.InvalidHeaderName("s3cret"),
        errors.LimitRequestLine(9000, 4094),
        errors.ObsoleteFolding("s3cret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_no_request_is_neither_logged_nor_repeated(error: Exception) -> None:
    sent: list[bytes] = []
    logged: list[str] = []
    log = SimpleNamespace(info=lambda text, *args: logged.append(text % args), debug=lambda *_: None)
    worker: Any = SimpleNamespace(log=log)

    ProblemWorker.handle_error(worker, None, SimpleNamespace(sendall=sent.append), None, error)

    head, _, body = b"".join(sent).partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert json.loads(body)["detail"]
    assert "s3cret" not in b"".join(sent).decode() + " ".join(logged)
