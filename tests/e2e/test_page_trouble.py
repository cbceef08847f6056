"""The page when something goes wrong: away servers, reloads in between, other tabs, wrong clocks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.browser import Chat
from tests.model_server import ModelServer
from tests.servers import wait_until
from tests.stack import Stack

MakeDevice = Callable[..., Callable[..., Chat]]

POSTS = "**/api/chat/session"
LISTS = re.compile(r"/api/(conversations|chat/sessions)\?")


def short(model_server: ModelServer) -> str:
    return model_server.add({"answers": [{"steps": [{"text": "Here."}]}], "loop": True})


def bubbles(chat: Chat) -> list[str]:
    return chat.page.locator(".bubble").all_inner_texts()


def refuse(status: int, code: str = "database_unavailable") -> Callable[[Route], None]:
    return lambda route: route.fulfill(
        status=status, content_type="application/problem+json", body=f'{{"code": "{code}", "detail": "raw words"}}'
    )


def cut_off(route: Route) -> None:
    route.abort()


class Trouble:
    """Answers a page's requests in place of the server, until it ends.

    The route stays when it has ended, and lets requests pass: Playwright may leave one unanswered for ever that comes
    just while a route is removed.
    """

    def __init__(self, page: Page, addresses: str | re.Pattern[str], answer: Callable[[Route], None]) -> None:
        self.answer: Callable[[Route], None] | None = answer
        page.route(addresses, self._handle)

    def _handle(self, route: Route) -> None:
        if self.answer is None:
            route.fallback()
        else:
            self.answer(route)

    def end(self) -> None:
        self.answer = None


def look_again(chat: Chat) -> None:
    """Come back to the tab."""
    chat.become("hidden")
    chat.become("visible")


def test_messages_on_their_way_stay_where_they_were_written(make_device: MakeDevice, model_server: ModelServer) -> None:
    chat = make_device(short(model_server))()
    chat.page.context.set_offline(True)
    chat.say("First of all")
    chat.say("And then")
    expect(chat.turns).to_have_count(2)

    chat.page.get_by_role("button", name="New conversation").click()
    expect(chat.turns).to_have_count(0)
    chat.list.get_by_role("link", name="First of all").click()

    expect(chat.turns).to_have_count(2)
    expect(chat.turn).to_contain_text("Sending")
    chat.page.context.set_offline(False)
    chat.wait_ended()
    expect(chat.page.locator("#banner")).to_be_hidden()
    chat.page.reload()
    expect(chat.turns).to_have_count(2)
    assert bubbles(chat) == ["First of all", "And then"]


def test_a_reload_shows_the_messages_on_their_way_and_goes_on_sending_them_in_order(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack
) -> None:
    chat = make_device(short(model_server))()
    trouble = Trouble(chat.page, POSTS, cut_off)
    chat.say("First of all")
    chat.say("And then")
    expect(chat.turns).to_have_count(2)

    chat.page.reload()

    again = Chat(chat.page)
    expect(again.turns).to_have_count(2)
    expect(again.turn).to_contain_text("Sending")
    expect(again.page.locator("#banner")).to_contain_text("No connection")
    trouble.end()
    again.wait_ended()
    assert bubbles(again) == ["First of all", "And then"]
    sessions = stack.get(f"/api/chat/sessions?conversationId={again.conversation}")["sessions"]
    assert [session["userMessage"] for session in sessions] == ["And then", "First of all"]


def test_what_could_not_be_read_appears_by_itself_when_the_server_is_back(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    device = make_device(short(model_server))
    chat = device()
    chat.say("Read me later")
    chat.wait_ended()
    page = chat.page
    key = chat.conversation
    page.get_by_role("button", name="New conversation").click()
    trouble = Trouble(page, LISTS, refuse(503))

    chat.list.get_by_role("link", name="Read me later").click()

    banner = page.locator("#banner")
    expect(banner).to_contain_text("can’t answer at the moment")
    trouble.answer = cut_off
    expect(banner).to_contain_text("No connection")
    trouble.end()
    expect(chat.text).to_have_text("Here.", timeout=60_000)
    expect(banner).to_be_hidden()

    other = device()
    trouble = Trouble(other.page, LISTS, refuse(500, "internal_error"))
    other.page.goto("about:blank")
    other.page.goto(f"{page.url.partition('#')[0]}#{key}")
    expect(other.page.locator("#banner")).to_be_visible()
    trouble.end()
    expect(other.text).to_have_text("Here.", timeout=60_000)
    expect(other.list.get_by_role("link", name="Read me later")).to_be_visible()


def test_a_message_that_the_server_does_not_take_now_says_so(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    chat = make_device(short(model_server))()
    trouble = Trouble(chat.page, POSTS, refuse(429, "too_many_requests"))

    chat.say("Much asked for")

    expect(chat.page.locator("#banner")).to_contain_text("can’t answer at the moment")
    trouble.end()
    chat.wait_ended()
    expect(chat.page.locator("#banner")).to_be_hidden()
    trouble.answer = refuse(413, "body_too_large")
    chat.say("Far too long")
    expect(chat.turn.locator(".problem")).to_have_text("Not sent. The message is too long.")
    trouble.end()
    chat.turn.get_by_role("button", name="Send again").click()
    chat.wait_ended()
    expect(chat.text).to_have_text("Here.")


def test_a_refused_message_is_still_there_after_a_reload_until_it_is_sent_or_deleted(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    chat = make_device(short(model_server))()
    trouble = Trouble(chat.page, POSTS, refuse(413, "body_too_large"))
    chat.say("Far too long")
    expect(chat.turn.locator(".problem")).to_have_text("Not sent. The message is too long.")
    chat.say("Too long as well")
    expect(chat.turn.locator(".problem")).to_have_text("Not sent. The message is too long.")

    chat.page.reload()

    expect(chat.turns.locator(".problem")).to_have_text(["Not sent. The message is too long."] * 2)
    assert bubbles(chat) == ["Far too long", "Too long as well"]
    expect(chat.list.get_by_role("link", name="Far too long")).to_be_visible()
    trouble.end()
    chat.turn.get_by_role("button", name="Delete").click()
    chat.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(chat.turns).to_have_count(1)
    chat.turn.get_by_role("button", name="Send again").click()
    chat.wait_ended()
    chat.page.reload()
    expect(chat.text).to_have_text("Here.")
    expect(chat.turns).to_have_count(1)


def test_whoever_went_on_is_not_called_back_by_an_answer_that_comes_late(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    chat = make_device(short(model_server))()
    chat.say("Where I am")
    chat.wait_ended()
    here = chat.conversation
    gone = "0b9f9a52-7c1b-4f0e-9d0e-3c6f8f6d2f11"
    held: list[Route] = []
    chat.page.route(f"**/api/chat/sessions?conversationId={gone}*", lambda route: held.append(route))
    chat.page.evaluate(f"location.hash = '{gone}'")
    wait_until(lambda: chat.page.evaluate("1") and held, "it is asked for")

    chat.page.go_back()
    expect(chat.turns).to_have_count(1)
    refuse(404, "not_found")(held[0])
    chat.page.wait_for_timeout(500)

    assert chat.conversation == here
    expect(chat.turn.locator(".bubble")).to_have_text("Where I am")
    expect(chat.page.locator("#banner")).to_be_hidden()


def test_a_refusal_to_show_a_conversation_is_told(make_device: MakeDevice) -> None:
    chat = make_device()()

    chat.page.evaluate("location.hash = 'x'.repeat(3000)")

    expect(chat.page.locator("#banner")).to_be_visible()


def test_a_stop_is_seen_at_once_and_taken_back_when_it_does_not_arrive(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    endless = model_server.add({"answers": [{"steps": [{"text": "Some. "}, {"stall": True}]}]})
    chat = make_device(endless)()
    chat.say("Stop this")
    chat.wait_text("Some.")
    trouble = Trouble(chat.page, "**/cancel", cut_off)
    chat.turn.get_by_role("button", name="Stop").click()
    expect(chat.page.locator("#banner")).to_contain_text("can’t be reached")
    expect(chat.turn.locator(".working-label")).to_have_text("Working")
    trouble.end()
    # The end is kept back, so that it can be looked at before.
    held: list[Route] = []
    seen = False
    chat.page.route("**/events?*", lambda route: route.continue_() if seen else held.append(route))

    chat.turn.get_by_role("button", name="Stop").click()

    expect(chat.turn.locator(".working-label")).to_have_text("Stopping")
    seen = True
    for route in held:
        route.continue_()
    expect(chat.turn.locator(".problem")).to_have_text("Stopped.")


def test_what_another_tab_deleted_is_gone_when_one_looks_again(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    device = make_device(short(model_server))
    chat = device()
    for message in ("It stays", "It goes"):
        chat.say(message)
        chat.wait_ended()
    other = device(f"/#{chat.conversation}")
    expect(other.turns).to_have_count(2)

    other.turn.get_by_role("button", name="Delete").click()
    other.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(other.turns).to_have_count(1)
    look_again(chat)
    expect(chat.turns).to_have_count(1)
    expect(chat.turn.locator(".bubble")).to_have_text("It stays")

    other.page.locator("#head-tools").get_by_role("button", name="Delete").click()
    other.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(other.list.get_by_role("link", name="It stays")).to_have_count(0)
    expect(other.page.locator("#banner")).to_be_hidden()
    look_again(chat)
    expect(chat.page.locator("#banner")).to_contain_text("no longer exists")
    expect(chat.list.get_by_role("link", name="It stays")).to_have_count(0)
    assert chat.conversation == ""


def test_a_run_deleted_elsewhere_while_it_streams_leaves_no_new_answer_behind(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack
) -> None:
    endless = model_server.add({"answers": [{"steps": [{"text": "Some. "}, {"stall": True}]}]})
    chat = make_device(endless)()
    chat.say("Deleted elsewhere")
    chat.wait_text("Some.")
    key = chat.conversation
    chat.page.get_by_role("button", name="New conversation").click()

    assert stack.call("DELETE", f"/api/conversations/{key}")[0] == 204

    expect(chat.list.get_by_role("link", name="Deleted elsewhere")).to_have_count(0)
    expect(chat.page.locator("#banner")).to_be_hidden()


def test_a_clock_that_is_wrong_neither_moves_messages_nor_counts_their_seconds(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack
) -> None:
    steps = [{"text": "a a a "}, {"hold": True}, {"text": "the end"}]
    device = make_device()
    started = stack.ask("Before", model=f"openai-chat:{short(model_server)}")
    for minutes in (-90, 90):
        chat = device("/")
        chat.page.add_init_script(f"const now = Date.now; Date.now = () => now() + {minutes * 60_000}")
        chat.page.goto("about:blank")
        chat.page.goto(f"{stack.url}/#{started['conversationId']}")
        chat = Chat(chat.page)
        chat.wait_ended()
        streaming = model_server.add({"answers": [{"steps": steps}]})
        Chat.answer_with(chat.page.context, f"openai-chat:{streaming}")

        chat.say(f"Clock at {minutes}")
        chat.wait_text("a a")
        look_again(chat)
        chat.page.reload()

        chat.wait_text("a a")
        assert bubbles(chat)[-1] == f"Clock at {minutes}"
        expect(chat.turn.locator(".elapsed")).to_have_text(re.compile(r"^\d\d?\ss$"))
        model_server.release(streaming)
        chat.wait_ended()


def test_a_conversation_that_the_list_does_not_reach_has_its_own_title(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack
) -> None:
    model = f"openai-chat:{short(model_server)}"
    old = stack.ask("What it is called", model=model)["conversationId"]
    stack.ask("What was said last", model=model, conversationId=old)
    stack.ask("A newer one", model=model)
    chat = make_device()()

    def only_newest(route: Route) -> None:
        answer = route.fetch()
        page: dict[str, Any] = answer.json()
        route.fulfill(response=answer, json=page | {"conversations": page["conversations"][:1], "nextCursor": "later"})

    chat.page.route("**/api/conversations?*", only_newest)
    chat.page.goto("about:blank")
    chat.page.goto(f"{stack.url}/#{old}")

    expect(chat.page.get_by_role("heading", level=1)).to_have_text("What it is called")
    expect(chat.turns).to_have_count(2)


def test_the_list_keeps_still_what_has_not_changed(make_device: MakeDevice, model_server: ModelServer) -> None:
    chat = make_device(short(model_server))()
    for message in ("An older one", "A newer one"):
        chat.page.get_by_role("button", name="New conversation").click()
        expect(chat.turns).to_have_count(0)
        chat.say(message)
        chat.wait_ended()
    chat.page.evaluate(
        """() => {
          window.moved = []
          new MutationObserver(records => {
            const removed = records.flatMap(record => [...record.removedNodes])
            moved.push(...removed.filter(node => node.nodeName === 'LI').map(node => node.innerText))
          }).observe(document.getElementById('conversations'), { childList: true, subtree: true })
        }"""
    )

    chat.list.get_by_role("link", name="An older one").click()
    expect(chat.turn.locator(".bubble")).to_have_text("An older one")
    look_again(chat)
    chat.page.wait_for_timeout(500)

    assert chat.page.evaluate("moved") == []


def test_after_a_reload_the_list_says_how_the_newest_turn_ended(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    fault = {"status": 401, "body": {}, "times": 1}
    device = make_device(model_server.add({"answers": [{"steps": [{"text": "Here."}], "fault": fault}]}))
    chat = device()
    chat.say("Failed at first")
    chat.wait_ended()
    expect(chat.turn.locator(".problem")).to_be_visible()
    chat.turn.get_by_role("button", name="Ask again").click()
    expect(chat.turns).to_have_count(2)
    chat.wait_ended()
    expect(chat.text).to_have_text("Here.")

    chat.page.reload()

    entry = chat.list.get_by_role("link", name="Failed at first")
    expect(entry).to_be_visible()
    expect(entry.locator(".meta")).not_to_contain_text("Failed")


def test_enter_on_a_touch_screen_begins_a_new_line_and_the_button_sends(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    phone = make_device(short(model_server), viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)()
    phone.field.tap()

    phone.page.keyboard.type("one")
    phone.page.keyboard.press("Enter")
    phone.page.keyboard.type("two")
    phone.page.get_by_role("button", name="Send").tap()

    expect(phone.turn.locator(".bubble")).to_have_text("one\ntwo", use_inner_text=True)
    phone.page.get_by_role("button", name="Open the list").tap()
    phone.page.get_by_role("link", name="Backchat").tap()
    expect(phone.turns).to_have_count(0)
    phone.page.get_by_role("button", name="What time").tap()
    expect(phone.field).to_have_value(re.compile("Tokyo"))


def test_at_400_percent_there_is_more_to_read_than_to_write(make_device: MakeDevice, model_server: ModelServer) -> None:
    # 1280 by 1024 pixels at that zoom.
    chat = make_device(short(model_server), viewport={"width": 320, "height": 256})()

    chat.say("Hello")
    chat.wait_ended()

    expect(chat.page.get_by_role("textbox", name="Message")).to_be_in_viewport(ratio=1)
    expect(chat.page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)
    box = chat.page.get_by_role("region", name="Messages").bounding_box()
    assert box is not None
    assert box["height"] > 256 / 2
    assert chat.page.evaluate("document.documentElement.scrollWidth") <= 320


def test_a_new_conversation_begins_at_its_top_on_a_small_screen(make_device: MakeDevice) -> None:
    page = make_device(viewport={"width": 320, "height": 300})().page

    expect(page.get_by_role("heading", name="What can I do")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Jump to the latest")).to_be_hidden()


def test_a_link_that_leads_nowhere_outside_is_only_its_words(make_device: MakeDevice) -> None:
    html = make_device()().page.evaluate(
        """async () => {
          const { MarkdownView } = await import('/web/markdown.js')
          const view = new MarkdownView(document.createElement('div'))
          const outside = '[real](https://example.org)'
          view.set(`See [the file](src/a.py), [above](#top), [root](/docs), [x](//evil.example) and ${outside}.`, true)
          while (view.pending) view.work(Infinity)
          return view.element.innerHTML
        }"""
    )

    assert "See the file, above, root, x and <a" in html
    assert html.count("<a ") == 1
