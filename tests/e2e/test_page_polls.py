"""How often the page asks the server, and that no answer is lost by it."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Route, expect

from tests.e2e.test_page import MakeDevice, grew_only, streaming, words
from tests.e2e.test_page_trouble import look_again, short
from tests.model_server import ModelServer
from tests.servers import wait_until


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_minute_of_streaming_takes_one_poll_per_one_and_a_half_seconds_and_none_after_the_end(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    model = model_server.add({"answers": [{"steps": [streaming(300, 0.2)]}]})
    device = make_device(model)
    chats = [device()]
    chats[0].say("A minute")
    expect(chats[0].turn).to_have_attribute("data-phase", "running")
    chats.append(device(f"/#{chats[0].conversation}"))
    began = time.monotonic()

    chats[0].wait_ended(90)
    took = time.monotonic() - began
    ended = [len(chat.requests) for chat in chats]
    chats[0].page.wait_for_timeout(6000)

    polls = sum(len(chat.polls()) for chat in chats)
    # Less often where the machine is busy, never more often.
    assert took > 30
    assert took / 1.5 * 0.5 < polls <= took / 1.5 + 4
    assert [len(chat.requests) for chat in chats] == ended


@pytest.mark.slow
def test_ten_seconds_offline_are_caught_up(make_device: MakeDevice, model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [streaming(150, 0.1)]}]})
    chat = make_device(model)()
    chat.say("Offline")
    chat.wait_text("word5")

    chat.page.context.set_offline(True)
    expect(chat.page.locator("#banner")).to_be_visible()
    chat.page.wait_for_timeout(10_000)
    polls = len(chat.polls())
    chat.page.context.set_offline(False)

    chat.wait_text("word100", timeout_s=15)
    expect(chat.page.locator("#banner")).to_be_hidden()
    assert polls < 20
    chat.wait_ended()
    expect(chat.text).to_have_text(words(150))
    grew_only(chat, words(150))


@pytest.mark.slow
def test_two_tabs_show_one_run_and_one_of_them_polls(make_device: MakeDevice, model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [streaming(100, 0.1)]}]})
    device = make_device(model)
    one = device()
    one.say("Two tabs")
    one.wait_text("word3")
    two = device(f"/#{one.conversation}")
    two.wait_text("word3")
    began = time.monotonic()
    before = len(one.polls()) + len(two.polls())

    one.wait_text("word60")
    two.wait_text("word60")
    polls = len(one.polls()) + len(two.polls()) - before
    took = time.monotonic() - began

    assert polls <= took / 1.5 + 2
    one.wait_ended()
    two.wait_ended()
    for chat in (one, two):
        expect(chat.text).to_have_text(words(100))
        grew_only(chat, words(100))


@pytest.mark.slow
def test_a_server_that_is_away_is_asked_ever_more_rarely(make_device: MakeDevice, model_server: ModelServer) -> None:
    chat = make_device(short(model_server))()
    chat.say("Rarely")
    chat.wait_ended()
    asked: list[float] = []

    def away(route: Route) -> None:
        asked.append(time.monotonic())
        route.abort()

    chat.page.route("**/api/**", away)
    look_again(chat)
    wait_until(lambda: chat.page.evaluate("1") and len(asked) >= 6, "it tries again", timeout_s=60)
    chat.page.wait_for_timeout(8000)

    # Each time the list and the conversation.
    assert len(asked) <= 10
