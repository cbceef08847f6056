"""The odd MCP server over streamable HTTP, and what only HTTP can do wrong."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.odd_mcp_server import HANG, Odd, raw

HTML = b"<h1>key=hidden</h1>"


@contextlib.contextmanager
def over_http() -> Iterator[str]:
    """Serves `/FORM/MODE`, each address a server of its own; yields the start of the address.

    FORM is `json` or `sse`, or a fault of HTTP when the tool `plain` is called, and with `-init` from the start.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.odd: dict[str, Odd] = {}
        self.sessions = 0
        self.ending = threading.Event()

    def handle_error(self, *_: object) -> None:
        """Clients may go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._say(405)

    do_DELETE = do_GET

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        _, form, mode = self.path.split("/")
        odd = self.server.odd.setdefault(self.path, Odd(mode))
        if form == "sse":
            self._events(odd, message)
        elif form == "json" or not (form.endswith("-init") or message.get("params", {}).get("name") == "plain"):
            self._json(odd, message, form)
        else:
            replies = list(odd.replies(message)) or [b""]
            self._fault(form.removesuffix("-init"), replies[-1], message)

    def _json(self, odd: Odd, message: dict[str, Any], form: str) -> None:
        replies = list(odd.replies(message))
        headers = {}
        if form == "session-over" and message.get("method") == "initialize":
            self.server.sessions += 1
            headers = {"mcp-session-id": f"s{self.server.sessions}"}
        if not replies:
            self._say(202)
        elif isinstance(replies[-1], str):
            self._end(replies[-1])
        else:
            self._say(200, "application/json", replies[-1], headers)

    def _events(self, odd: Odd, message: dict[str, Any]) -> None:
        begun = False
        for reply in odd.replies(message):
            if isinstance(reply, str):
                self._end(reply)
                return
            if not begun:
                begun = True
                self._start("text/event-stream")
            self.wfile.write(b"event: message\r\ndata: %s\r\n\r\n" % reply)
            self.wfile.flush()
        if not begun:
            self._say(202)

    def _fault(self, name: str, reply: bytes | str, message: dict[str, Any]) -> None:
        assert isinstance(reply, bytes)
        if name.isdigit():
            self._say(int(name), "text/html", HTML)
        elif name == "error-body":
            self._say(400, "application/json", raw(id=None, error={"code": -32000, "message": "quota"}))
        elif name == "redirect":
            self._say(307, headers={"location": "http://127.0.0.2:9/key=hidden"})
        elif name == "session-over" and self.headers.get("mcp-session-id") == "s1":
            self._say(404, "application/json", raw(id=None, error={"code": -32001, "message": "what session?"}))
        elif name in ("cut", "cut-events"):
            self._start("application/json" if name == "cut" else "text/event-stream", {"content-length": "1000"})
            self.wfile.write(b"data: " * (name == "cut-events") + reply[:20])
        elif name == "accepted":
            self._say(202)
        else:
            kind, body = {
                "no-type": ("", reply),
                "text-type": ("text/plain; charset=utf-8", reply),
                "events-as-text": ("text/plain", b"data: %s\n\n" % reply),
                "html": ("text/html", HTML),
                "nothing": ("application/json", b""),
                "wrong-id": ("application/json", reply.replace(b'"id":%d' % message.get("id", 0), b'"id":999')),
                "session-over": ("application/json", reply),
            }[name]
            self._say(200, kind, body)

    def _start(self, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        for key, value in {"content-type": kind, "connection": "close", **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.close_connection = True

    def _say(self, status: int, kind: str = "", body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        known = {"content-type": kind} if kind else {}
        for key, value in {"content-length": str(len(body)), **known, **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def _end(self, how: str) -> None:
        if how == HANG:
            self.server.ending.wait()
        self.close_connection = True
