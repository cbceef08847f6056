"""A broker for machines without Redis: fakeredis on a unix socket, in a process of its own.

    python -m app.broker.embedded var/broker/socket

Whoever writes to a broker tells workers what to do, and it asks for no password: the socket is its user's alone.
It keeps its data in memory and is meant for development: the database is the truth, so a broker that
comes back empty loses nothing. Served here and not by fakeredis' own TCP server because that one polls every
connection, hands jobs to clients that are gone, closes on every error, and knows neither INFO nor a BLMOVE that waits.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import queue
import signal
import socket
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fakeredis import FakeRedisConnection, FakeServer
from fakeredis._clients._tcp_server import encode_reply
from fakeredis._command_args_parsing import Timeout
from fakeredis._commands import Signature
from fakeredis._socket import FakeSocket

logger = logging.getLogger(__name__)

#: The version of Redis that clients see.
VERSION = (7, 4)


class _Session(FakeSocket):
    """The state of one client inside fakeredis."""

    #: The client's connection.
    peer: socket.socket

    def _name_to_func(self, cmd_name: str) -> tuple[Callable[..., Any] | None, Signature]:
        if own := _COMMANDS.get(cmd_name):
            return getattr(self, own.func_name), own
        return super()._name_to_func(cmd_name)

    def info(self, *sections: bytes) -> bytes:
        """RQ asks for the version of the server before its first job."""
        version = ".".join(map(str, VERSION)) + ".0"
        return f"# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\nprocess_id:0\r\n".encode()

    def blmove(self, source: bytes, destination: bytes, wherefrom: bytes, whereto: bytes, timeout: float) -> Any:
        """fakeredis' own does not wait: an idle worker would ask again and again."""
        ends = (wherefrom.upper() == b"LEFT", whereto.upper() == b"LEFT")
        return self._blocking(
            timeout,
            lambda first_pass: self._blmovem_pass(source, destination, *ends, False, 1, True, first_pass),
            lambda moved: moved[0] if moved else None,
        )

    def _blocking(
        self, timeout: float | None, func: Callable[[bool], Any], shape: Callable[[Any], Any] | None = None
    ) -> Any:
        def take(first_pass: bool) -> Any:
            # A worker that was killed while it waited must not swallow the next job.
            if not first_pass and self._peer_is_gone():
                raise ConnectionResetError
            return func(first_pass)

        return super()._blocking(timeout, take, shape)

    def _peer_is_gone(self) -> bool:
        try:
            return self.peer.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


#: Beside fakeredis' own, for this class alone: its registry is shared by all clients in a process.
_COMMANDS = {
    "info": Signature("info", "info", (), (bytes,)),  # type: ignore[arg-type]
    "blmove": Signature("blmove", "blmove", (bytes, bytes, bytes, bytes, Timeout)),  # type: ignore[arg-type]
}


class _Connection(FakeRedisConnection):
    def _connect(self) -> FakeSocket:
        assert self._server is not None
        return _Session(
            self._server,
            client_class=self._client_class,
            db=self.db,
            lua_modules=self._lua_modules,
            client_info=self._client_info,
        )


class _Handler(socketserver.BaseRequestHandler):
    """One client: this thread feeds its commands to fakeredis, another one writes the answers."""

    server: Broker
    request: socket.socket

    def handle(self) -> None:
        # RESP2 until the client says HELLO, as with a real server.
        connection = _Connection(server=self.server.data, client_info={"addr": "unix:0"}, protocol=2)
        session = connection.get_socket()
        assert isinstance(session, _Session)
        session.peer = self.request
        answers: queue.Queue[Any] = session.responses  # type: ignore[assignment]
        writer = threading.Thread(target=self._write, args=(session, answers), daemon=True)
        writer.start()
        try:
            while data := self.request.recv(65536):
                session.sendall(data)
        except OSError:
            logger.debug("client gone")
        except Exception as error:
            # The parser is lost after this: tell the client why, then close.
            logger.exception("command failed")
            answers.put(error)
        finally:
            answers.put(_CLOSE)
            writer.join()
            connection.disconnect()  # type: ignore[no-untyped-call]

    def _write(self, session: _Session, answers: queue.Queue[Any]) -> None:
        try:
            while (answer := answers.get()) is not _CLOSE:
                self.request.sendall(encode_reply(answer, session._client_info.protocol_version))
        except OSError:
            logger.debug("client gone")


_CLOSE = object()


class Broker(socketserver.ThreadingUnixStreamServer):
    """Serves one set of data to any number of clients.

    Args:
        path: Of the socket; its folder is made when it is missing, for this user alone.

    Raises:
        OSError: another broker listens there, or the path can't be used.
    """

    # Clients that stay connected must not keep the process alive.
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, path: Path) -> None:
        self.data = FakeServer(version=VERSION)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_left_over(path)
        # Whoever may not write to a socket can't connect to it.
        umask = os.umask(0o177)
        try:
            super().__init__(str(path), _Handler)
        finally:
            os.umask(umask)

    def server_close(self) -> None:
        super().server_close()
        Path(str(self.server_address)).unlink(missing_ok=True)


def _remove_left_over(path: Path) -> None:
    """Remove the socket of a broker that was killed."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise FileExistsError(errno.EEXIST, "another broker listens there", str(path))


def main() -> None:
    """Serve until SIGTERM or SIGINT; prints one line when it accepts clients."""
    arguments = argparse.ArgumentParser(
        prog="python -m app.broker.embedded", description="A broker that keeps its data in memory."
    )
    arguments.add_argument("socket", type=Path, help="the path of its unix socket")
    options = arguments.parse_args()
    # A lock would not do: the kernel may interrupt another thread instead, and the one that waits would not notice.
    stopped, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with Broker(options.socket) as broker:
        threading.Thread(target=broker.serve_forever, daemon=True).start()
        print(f"Ready to accept connections on {options.socket}", flush=True)
        stopped.recv(1)


if __name__ == "__main__":
    main()
