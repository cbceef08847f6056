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
        OPENAI_API_KEY="key-of-the-model-server",
        CHAT_SECRET=SECRET,
        # The most that is ever said; no log may hold a secret.
        LOG_LEVEL="DEBUG",
        URL_PREFIX="/chat",
        AGENTS_FILE=str(folder / "agents.toml"),
    )
    try:
        yield running.start()
    finally:
        running.stop()
        mariadb.drop_database("access")


def give_token(page: Page, owner: str) -> None:
    enter(page, access.issue(SECRET, owner))


def enter(page: Page, token: str) -> None:
    """Sign in with *token*; returns once the page has been loaded anew."""
    expect(page.get_by_role("dialog")).to_contain_text("Access token")
    page.locator("#dialog-input").fill(token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
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


#: All that a page can keep in a browser, and what it shows.
KEPT = """async () => JSON.stringify([
  { ...localStorage }, { ...sessionStorage }, await indexedDB.databases(), await caches.keys(), document.cookie,
  document.documentElement.innerText, [...document.querySelectorAll('input, textarea')].map(field => field.value),
])"""


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("dialog").get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("dialog")).to_contain_text("Access token")


def test_who_signs_out_leaves_nothing_in_any_tab_and_another_may_sign_in(
    make_device: Callable[..., Callable[..., Chat]], model_server: ModelServer
) -> None:
    held = model_server.add({"answers": [{"steps": [{"text": "Half a pomegranate"}, {"hold": True}]}]})
    open_tab = make_device(held)
    chat = open_tab()
    page = chat.page
    give_token(page, "grace")
    chat = Chat(page)
    # What runs, what is not sent, what is written: each is kept somewhere while she is signed in.
    chat.say("A pomegranate, please")
    expect(chat.text).to_contain_text("Half a pomegranate")
    other = open_tab(f"/#{chat.conversation}")
    expect(other.text).to_contain_text("Half a pomegranate")
    other.field.fill("A pomegranate in a draft")
    page.route("**/api/chat/session", lambda route: route.abort())
    chat.say("A pomegranate that waits")
    page.get_by_role("searchbox").fill("pomegranate")
    kept = page.evaluate(KEPT)
    assert "pomegranate that waits" in kept
    assert access_token(page) in kept

    token = access_token(page)
    sign_out(page)

    expect(other.page.get_by_role("dialog")).to_contain_text("Access token")
    for tab in (page, other.page):
        kept = tab.evaluate(KEPT)
        assert "pomegranate" not in kept
        assert token not in kept
        assert json.loads(kept)[:5] == [{}, {}, [], [], ""]
        assert tab.evaluate("location.hash") == ""
        assert tab.title() == "Backchat"
    model_server.release(held)

    give_token(page, "heidi")
    expect(page.get_by_text("Your conversations appear here.")).to_be_visible()
    expect(other.page.get_by_role("button", name="Sign out")).to_be_visible()


def access_token(page: Page) -> str:
    return str(page.evaluate("localStorage.getItem('backchat:token')"))


def test_a_token_of_one_session_shows_and_stops_it_and_does_nothing_else(
    make_device: Callable[..., Callable[..., Chat]], model_server: ModelServer, stack: Stack
) -> None:
    held = model_server.add({"answers": [{"steps": [{"text": "A long answer"}, {"hold": True}]}]})
    owner = make_device(held)()
    give_token(owner.page, "ivan")
    owner = Chat(owner.page)
    with owner.page.expect_response("**/api/chat/session") as posted:
        owner.say("Begin something")
    started = posted.value.json()

    guest = make_device()(f"/#{started['conversationId']}")
    enter(guest.page, started["token"])

    guest = Chat(guest.page)
    expect(guest.text).to_contain_text("A long answer")
    expect(guest.list.locator(".conversations a")).to_have_count(1)
    expect(guest.page.locator("#banner")).to_be_hidden()
    guest.page.locator("#send").click()
    guest.wait_ended()
    guest.say("And now something else")
    expect(guest.turn).to_contain_text("does not allow this")
    expect(owner.turn).to_have_attribute("data-phase", "ended")


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
