"""The page on a server that wants a token, has two agents, and is also below a path of a proxy's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app import access
from tests.browser import Chat
from tests.model_server import ModelServer
from tests.servers import MariaDB, RedisServer
from tests.stack import Stack

SECRET = "a-secret-of-this-test-and-nobody-else"
AGENTS = """
[[agents]]
id = 1
name = "Assistant"
model = "openai-chat:{first}"

[[agents]]
id = 2
name = "Librarian"
description = "Knows books."
model = "openai-chat:{second}"
"""


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, redis_server: RedisServer, model_server: ModelServer
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    first = model_server.add({"answers": [{"steps": [{"text": "The assistant says: pomegranate."}]}], "loop": True})
    second = model_server.add({"answers": [{"steps": [{"text": "The librarian says: shelf."}]}], "loop": True})
    (folder / "agents.toml").write_text(AGENTS.format(first=first, second=second), "utf-8")
    running = Stack(
        folder,
        DATABASE_URL=mariadb.create_database("access"),
        REDIS_URL=redis_server.url,
        OPENAI_BASE_URL=model_server.url,
        OPENAI_API_KEY="unused",
        CHAT_SECRET=SECRET,
        URL_PREFIX="/chat",
        AGENTS_FILE=str(folder / "agents.toml"),
    )
    try:
        yield running.start()
    finally:
        running.stop()
        mariadb.drop_database("access")


def give_token(page: Page, owner: str) -> None:
    expect(page.get_by_role("dialog")).to_contain_text("Access token")
    page.locator("#dialog-input").fill(access.issue(SECRET, owner))
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_token_is_asked_for_once_and_everybody_sees_only_their_own(
    make_device: Callable[..., Callable[..., Chat]],
) -> None:
    alice = make_device()()
    give_token(alice.page, "alice")
    alice.say("A secret of Alice")
    alice.wait_ended()

    alice.page.reload()
    expect(Chat(alice.page).text).to_contain_text("pomegranate")
    expect(alice.page.get_by_role("dialog")).to_have_count(0)

    bob = make_device()(f"/#{alice.conversation}")
    give_token(bob.page, "bob")
    expect(bob.page.locator("#banner")).to_have_text("This conversation no longer exists.")
    expect(bob.list.get_by_text("Your conversations appear here.")).to_be_visible()


def test_below_a_path_of_a_proxy_everything_stays_below_it(
    make_device: Callable[..., Callable[..., Chat]], stack: Stack
) -> None:
    chat = make_device()("/chat")
    give_token(chat.page, "dave")
    chat.say("Hello")
    chat.wait_ended()

    chat.page.reload()
    expect(Chat(chat.page).text).to_contain_text("pomegranate")

    assert chat.page.url.startswith(f"{stack.url}/chat/#")
    asked = {request.url for request in chat.requests}
    assert {url for url in asked if not url.startswith(f"{stack.url}/chat/")} == set()
    assert {f"{stack.url}/chat/web/page.js", f"{stack.url}/chat/api/chat/session"} <= asked


@pytest.mark.parametrize("header", ["SCRIPT_NAME", "Script-Name", "X-Script-Name", "X-Forwarded-Prefix", "PATH_INFO"])
@pytest.mark.parametrize("prefix", ["", "/chat"])
def test_no_header_says_below_which_path_the_server_is(stack: Stack, header: str, prefix: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=10)
    token = access.issue(SECRET, "erin")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", header: "/chat/api"}

    connection.request("POST", f"{prefix}/api/chat/session", '{"message": "Hello"}', headers)
    response = connection.getresponse()
    session_id = json.loads(response.read())["sessionId"]
    connection.close()

    assert (response.status, response.headers["Location"]) == (202, f"/chat/api/chat/session/{session_id}")


def test_a_wrong_token_is_told_and_can_be_replaced(make_device: Callable[..., Callable[..., Chat]]) -> None:
    chat = make_device()()
    chat.page.locator("#dialog-input").fill("nonsense")
    chat.page.keyboard.press("Enter")

    expect(chat.page.locator("#banner")).to_contain_text("wants a valid access token")
    chat.page.get_by_role("button", name="Enter a token").click()

    give_token(chat.page, "carol")
    chat.say("Hello")
    chat.wait_ended()
    expect(chat.page.locator("#banner")).to_be_hidden()


def test_the_agent_that_is_chosen_answers_and_stays(make_device: Callable[..., Callable[..., Chat]]) -> None:
    chat = make_device()()
    give_token(chat.page, "dave")

    chat.page.get_by_role("combobox", name="Agent").select_option("Librarian")
    chat.say("Who are you?")
    chat.wait_ended()
    expect(chat.text).to_contain_text("librarian")
    chat.page.reload()

    again = Chat(chat.page)
    expect(again.text).to_contain_text("librarian")
    expect(again.page.get_by_role("combobox", name="Agent")).to_have_value("2")


def test_search_finds_what_was_answered_and_a_title_can_be_changed(
    make_device: Callable[..., Callable[..., Chat]],
) -> None:
    chat = make_device(permissions=["clipboard-read", "clipboard-write"])()
    page = chat.page
    give_token(page, "erin")
    for question in ("Which fruit?", "Another question"):
        page.get_by_role("button", name="New conversation").click()
        expect(chat.turns).to_have_count(0)
        chat.say(question)
        chat.wait_ended()

    page.get_by_role("button", name="Rename").click()
    page.locator("#dialog-input").fill("")
    page.keyboard.insert_text("T" * 300)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("T" * 255)
    page.get_by_role("button", name="Rename").click()
    page.locator("#dialog-input").fill("Something <b>else</b>")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Something <b>else</b>")
    page.get_by_role("searchbox").fill("else")
    expect(chat.list.get_by_role("link", name="Which fruit?")).to_have_count(0)
    expect(chat.list.get_by_role("link", name="Something <b>else</b>")).to_have_count(1)

    page.get_by_role("searchbox").fill("pomegr")
    expect(chat.list.locator(".snippet").first).to_contain_text("pomegranate")
    chat.list.get_by_role("link", name="Which fruit?").click()
    expect(chat.turn.locator(".bubble")).to_have_text("Which fruit?")
    chat.turn.get_by_role("button", name="Copy the answer").click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "The assistant says: pomegranate."


def test_a_deleted_turn_is_gone_everywhere(make_device: Callable[..., Callable[..., Chat]], tmp_path: Path) -> None:
    chat = make_device()()
    page = chat.page
    give_token(page, "frank")
    chat.say("Keep this")
    chat.wait_ended()
    chat.say("Delete this")
    expect(chat.turns).to_have_count(2)
    chat.wait_ended()

    chat.turn.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(chat.turns).to_have_count(1)
    page.reload()

    expect(chat.turns).to_have_count(1)
    expect(chat.turn.locator(".bubble")).to_have_text("Keep this")
