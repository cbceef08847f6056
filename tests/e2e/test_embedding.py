"""The page of `docs/embedding.md`, as it is written there, on an origin of its own."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.model_server import ModelServer
from tests.servers import ROOT, MariaDB, RedisServer
from tests.stack import Stack


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    """Another origin, which serves `tmp_path`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_page_of_the_documentation_works_on_a_foreign_origin(
    site: ThreadingHTTPServer,
    tmp_path: Path,
    browser: Browser,
    mariadb: MariaDB,
    redis_server: RedisServer,
    model_server: ModelServer,
) -> None:
    [html] = re.findall(r"```html\n(.*?)```", (ROOT / "docs/embedding.md").read_text("utf-8"), re.S)
    assert len(html.splitlines()) <= 30
    steps = [{"text": "Here. "}, {"repeat": {"text": "word{i} ", "count": 20, "every": 0.1}}, {"stall": True}]
    model = model_server.add({"answers": [{"steps": steps}], "loop": True})
    origin = f"http://127.0.0.1:{site.server_port}"
    stack = Stack(
        tmp_path,
        DATABASE_URL=mariadb.create_database("embedding"),
        REDIS_URL=redis_server.url,
        OPENAI_BASE_URL=model_server.url,
        OPENAI_API_KEY="unused",
        CHAT_MODEL=f"openai-chat:{model}",
        CORS_ORIGINS=origin,
    )
    # Only the address of the server differs from what is written.
    (tmp_path / "index.html").write_text(html.replace("http://127.0.0.1:8000", stack.url), "utf-8")
    try:
        stack.start()
        page = browser.new_page()
        page.goto(origin)

        page.get_by_role("textbox", name="Question").fill("Are you there?")
        page.keyboard.press("Enter")
        expect(page.locator("#answer")).to_contain_text("word10", timeout=60_000)
        page.reload()

        expect(page.locator("#answer")).to_contain_text("Here. word0 word1 ", timeout=60_000)
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("status")).to_contain_text("cancelled")
        expect(page.get_by_role("button", name="Stop")).to_be_hidden()
        page.close()
    finally:
        stack.stop()
        mariadb.drop_database("embedding")
