"""The real stack and a real browser."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests import packages
from tests.browser import Chat, Watch
from tests.model_server import ModelServer
from tests.servers import ROOT, MariaDB, RedisServer, binary
from tests.stack import Stack

# A busy machine takes longer than the five seconds that are usual.
expect.set_options(timeout=15_000)

WEB_TESTS = ROOT / "tests" / "web"


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The packages of `tests/web`."""
    return packages.node_modules(WEB_TESTS)


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, redis_server: RedisServer, model_server: ModelServer
) -> Iterator[Stack]:
    """Web, worker, MariaDB, Redis and the scripted model; a test that stops a part starts it again."""
    running = Stack(
        tmp_path_factory.mktemp("stack"),
        DATABASE_URL=mariadb.create_database("e2e"),
        REDIS_URL=redis_server.url,
        OPENAI_BASE_URL=model_server.url,
        OPENAI_API_KEY="key-of-the-model-server",
        CHAT_MODEL="openai-chat:unknown",
        LEASE_S="3",
        SWEEP_S="0.5",
    )
    try:
        yield running.start()
    finally:
        running.stop()
        mariadb.drop_database("e2e")


#: The spinner stands still: without a graphics card, each page would be drawn anew sixty times a second.
_STILL = """
const still = new CSSStyleSheet()
still.replaceSync(".spinner { animation-play-state: paused }")
document.adoptedStyleSheets.push(still)
"""


# Playwright keeps an event loop running in this thread: no later test of this process could run one of its own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = binary("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    arguments = ["--disable-gpu", "--disable-background-networking"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def watch() -> Iterator[Watch]:
    """What the browser complained of; a test that expects complaints takes them out."""
    watching = Watch()
    yield watching
    assert watching.complaints == []


@pytest.fixture
def make_device(browser: Browser, stack: Stack, watch: Watch) -> Iterator[Callable[..., Any]]:
    """A browser profile of its own: `device = make_device(model); chat = device()` opens a tab."""
    with ExitStack() as contexts:

        def make(model: str = "", **options: Any) -> Callable[..., Chat]:
            context = browser.new_context(**({"locale": "en-GB", "viewport": {"width": 1200, "height": 800}} | options))
            contexts.callback(context.close)
            context.set_default_timeout(60_000)
            context.add_init_script(_STILL)
            if model:
                Chat.answer_with(context, f"openai-chat:{model}")

            def open_tab(address: str = "/") -> Chat:
                page = context.new_page()
                watch.over(page, stack.url)
                page.goto(stack.url + address)
                return Chat(page)

            return open_tab

        yield make


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures go: `docs/images` with UPDATE_IMAGES=1, else where nobody keeps them."""
    if os.environ.get("UPDATE_IMAGES") == "1":
        folder = ROOT / "docs" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return tmp_path
