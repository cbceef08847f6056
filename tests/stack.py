"""The whole of Backchat as processes of its own: web and worker on the parts that a test brings."""

from __future__ import annotations

import contextlib
import http.client
import json
from pathlib import Path
from typing import Any

from tests.preloaded import PreloadedProcess
from tests.servers import Process, free_port, wait_until


class Stack:
    """Web and worker; each may be killed and started again, the port stays."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {"PORT": str(self.port), "LOG_LEVEL": "WARNING", "MODELS": "openai-chat:*"} | environment
        gunicorn = ("-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app")
        self.web = Process.python(*gunicorn, log=folder / "web.log", environment=self.environment)
        self.worker = PreloadedProcess("worker", log=folder / "worker.log", environment=self.environment)

    def start(self) -> Stack:
        """Migrate, start both, and return when the API answers."""
        migration = Process.python(
            "-m", "app.cli", "migrate", log=self.folder / "migrate.log", environment=self.environment
        )
        with migration:
            assert migration.wait() == 0, migration
        self.worker.start()
        self.start_web()
        return self

    def start_web(self) -> None:
        self.web.start()
        wait_until(self._healthy, "the API answers")

    def stop(self) -> None:
        self.worker.kill9()
        self.web.kill9()

    def _healthy(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.call("GET", "/healthz")[0] == 200
        return False

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        return response.status, json.loads(text) if text.startswith((b"{", b"[")) else text

    def get(self, path: str) -> Any:
        status, answer = self.call("GET", path)
        assert status == 200, answer
        return answer

    def ask(self, message: str, **fields: Any) -> Any:
        status, answer = self.call("POST", "/api/chat/session", {"message": message, **fields})
        assert status == 202, answer
        return answer
