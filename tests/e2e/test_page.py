"""The chat page in Chromium against web, worker, MariaDB, Redis and a scripted model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser import Chat, Watch
from tests.e2e import hostile_server
from tests.e2e.hostile_server import PAYLOADS
from tests.model_server import ModelServer
from tests.servers import wait_until
from tests.stack import Stack

Device = Callable[..., Chat]
MakeDevice = Callable[..., Device]


def words(count: int) -> str:
    return "".join(f"word{n} " for n in range(count)).strip()


def streaming(count: int, every: float, text: str = "word{i} ") -> dict[str, Any]:
    return {"repeat": {"text": text, "count": count, "every": every}}


#: The answer stands still until the test releases it.
HOLD = {"hold": True}
END = {"text": "and the end"}


def calling(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"tool": {"index": 0, "id": call_id, "name": name, "arguments": arguments}}


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "cached_tokens": 0}


def grew_only(chat: Chat, whole: str) -> None:
    """Whatever was seen was a beginning of *whole*: nothing doubled, nothing taken back."""
    strays = [sample for sample in chat.samples() if not whole.startswith(sample.strip())]
    assert strays == []


def test_thoughts_a_tool_call_and_text_grow_while_the_run_goes_on(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    first = [
        {"reasoning": "I should "},
        {"delay": 2},
        {"reasoning": "calculate this."},
        {"delay": 1},
        calling("a", "calculate", '{"expression": "6 * 7"}'),
    ]
    second = [{"delay": 0.5}, streaming(30, 0.1)]
    model = model_server.add(
        {"answers": [{"steps": first, "usage": usage(100, 34)}, {"steps": second, "usage": usage(900, 200)}]}
    )
    chat = make_device(model)()

    chat.say("What is 6 × 7?")

    expect(chat.turn.get_by_text("This runs in the background")).to_be_visible()
    thought = chat.turn.locator(".step.thinking")
    expect(thought).to_contain_text("I should")
    thought.locator("summary").click()
    expect(thought.locator(".thoughts")).to_contain_text("calculate this.")
    call = chat.turn.locator(".step.tool")
    expect(call).to_have_attribute("data-state", "ok")
    expect(call.locator(".step-title")).to_contain_text("calculate")
    call.locator("summary").click()
    expect(call.locator("pre").first).to_contain_text('"expression": "6 * 7"')
    expect(call.locator("pre").last).to_have_text("42")
    chat.wait_text("word3")
    chat.wait_ended()
    expect(chat.text).to_have_text(words(30))
    expect(chat.turn).to_contain_text("1,234 tokens")
    expect(chat.turn).to_contain_text(model)
    assert len(chat.samples()) > 5
    grew_only(chat, words(30))


def test_a_reload_in_mid_stream_shows_the_same_text_going_on_and_nothing_twice(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    model = model_server.add({"answers": [{"steps": [streaming(30, 0.1), HOLD, END]}]})
    whole = f"{words(30)} and the end"
    chat = make_device(model)()
    chat.say("Count")
    chat.wait_text("word10")

    chat.page.reload()

    again = Chat(chat.page)
    again.wait_text("word10", timeout_s=15)
    expect(again.turn).to_have_attribute("data-phase", "running")
    model_server.release(model)
    again.wait_ended()
    expect(again.text).to_have_text(whole)
    expect(again.turns).to_have_count(1)
    grew_only(again, whole)


def test_a_tab_that_was_closed_finds_the_answer_finished(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack
) -> None:
    model = model_server.add({"answers": [{"steps": [HOLD, streaming(20, 0.05)]}]})
    device = make_device(model)
    chat = device()
    chat.say("Count to twenty")
    expect(chat.turn).to_have_attribute("data-phase", "running")
    chat.page.close()

    model_server.release(model)
    later = device()
    later.list.get_by_role("link", name="Count to twenty").click()

    later.wait_ended()
    expect(later.text).to_have_text(words(20))


def test_a_run_is_simply_there_on_another_device(make_device: MakeDevice, model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [streaming(60, 0.1)]}]})
    chat = make_device(model)()
    chat.say("Seen from two devices")
    chat.wait_text("word5")

    other = make_device()()
    other.list.get_by_role("link", name="Seen from two devices").click()

    other.wait_text("word5")
    other.wait_ended()
    expect(other.text).to_have_text(words(60))


def test_what_is_sent_and_deleted_in_one_tab_is_seen_in_another(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    device = make_device(model_server.add({"answers": [{"steps": [{"text": "Yes."}]}]}))
    one = device()
    one.say("First")
    one.wait_ended()
    two = device(f"/#{one.conversation}")
    expect(two.turns).to_have_count(1)

    one.say("Second")

    expect(two.turns).to_have_count(2)
    two.wait_ended()
    expect(two.text).to_have_text("Yes.")
    one.turn.get_by_role("button", name="Delete this message").click()
    one.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(one.turns).to_have_count(1)
    expect(two.turns).to_have_count(1)


def test_a_run_that_pauses_shows_what_it_has_said_whenever_it_is_opened(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    model = model_server.add({"answers": [{"steps": [{"text": "So far. "}, {"hold": True}, {"text": "The end."}]}]})
    device = make_device(model)
    chat = device()
    chat.say("Tell me slowly")
    chat.wait_text("So far.")

    chat.list.get_by_role("link", name="Backchat").click()
    expect(chat.turns).to_have_count(0)
    chat.list.get_by_role("link", name="Tell me slowly").click()
    chat.wait_text("So far.")
    device(f"/#{chat.conversation}").wait_text("So far.")
    chat.page.reload()
    chat.wait_text("So far.")

    model_server.release(model)
    chat.wait_ended()
    expect(chat.text).to_have_text("So far. The end.")


def test_a_run_is_stopped_from_another_tab(make_device: MakeDevice, model_server: ModelServer, stack: Stack) -> None:
    model = model_server.add({"answers": [{"steps": [streaming(400, 0.1)]}]})
    device = make_device(model)
    one = device()
    one.say("Stop me")
    one.wait_text("word5")
    two = device(f"/#{one.conversation}")
    two.wait_text("word5")

    two.turn.get_by_role("button", name="Stop").click()

    for chat in (one, two):
        chat.wait_ended(25)
        expect(chat.turn.locator(".problem")).to_have_text("Stopped.")
        expect(chat.text).to_contain_text("word5")
    [session] = stack.get(f"/api/chat/sessions?conversationId={one.conversation}")["sessions"]
    assert session["errorCode"] == "cancelled"


def test_a_killed_worker_is_replaced_and_the_answer_goes_on_without_what_it_superseded(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack
) -> None:
    model = model_server.add(
        {
            "answers": [
                {"steps": [{"text": "Before the call. "}, calling("a", "calculate", '{"expression": "2 + 2"}')]},
                {"steps": [streaming(30, 0.1), HOLD, END]},
            ]
        }
    )
    chat = make_device(model)()
    chat.say("Survive")
    chat.wait_text("word10")

    stack.worker.kill9()
    stack.worker.start()

    model_server.release(model)
    chat.wait_ended(60)
    [session] = stack.get(f"/api/chat/sessions?conversationId={chat.conversation}")["sessions"]
    events = stack.get(f"/api/chat/session/{session['sessionId']}/events?limit=1000")["events"]
    assert [event for event in events if event.get("supersedesFrom")]
    assert session["attempt"] == 2
    texts = chat.turn.locator(".text")
    expect(texts.last).to_have_text(f"{words(30)} and the end")
    assert chat.page.locator(".step.tool").count() == 1
    assert session["finalResponse"].count("word10 ") == 1


def test_the_server_restarts_while_the_page_polls(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack
) -> None:
    model = model_server.add({"answers": [{"steps": [streaming(30, 0.1), HOLD, END]}]})
    whole = f"{words(30)} and the end"
    chat = make_device(model)()
    chat.say("Restart")
    chat.wait_text("word5")

    stack.web.kill9()
    expect(chat.page.get_by_text("No connection to the server.").first).to_be_visible()
    stack.start_web()

    expect(chat.page.locator("#banner")).to_be_hidden(timeout=40_000)
    model_server.release(model)
    chat.wait_ended()
    expect(chat.text).to_have_text(whole)
    grew_only(chat, whole)


def test_a_message_written_offline_is_sent_once_when_the_network_is_back(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack
) -> None:
    model = model_server.add({"answers": [{"steps": [{"text": "Here I am."}]}]})
    chat = make_device(model)()
    chat.page.context.set_offline(True)

    chat.say("Are you there?")
    expect(chat.turn.get_by_text("Sending")).to_be_visible()
    chat.page.wait_for_timeout(1500)
    chat.page.context.set_offline(False)

    chat.wait_ended()
    expect(chat.text).to_have_text("Here I am.")
    assert len(stack.get(f"/api/chat/sessions?conversationId={chat.conversation}")["sessions"]) == 1


def test_three_runs_at_once_show_their_status_in_the_list(make_device: MakeDevice, model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [HOLD, streaming(20, 0.1)]}]})
    chat = make_device(model)()
    names = ["First question", "Second question", "Third question"]
    for name in names:
        chat.page.get_by_role("button", name="New conversation").click()
        expect(chat.turns).to_have_count(0)
        chat.say(name)
        expect(chat.turn).to_have_attribute("data-phase", "running")

    for name in names:
        expect(chat.list.get_by_role("link", name=name)).to_contain_text("Working")

    model_server.release(model)
    for name in names[:2]:
        expect(chat.list.get_by_role("link", name=name)).to_contain_text("New answer", timeout=60_000)
    chat.wait_ended()
    expect(chat.list.get_by_role("link", name="Third question")).not_to_contain_text("Working")
    chat.list.get_by_role("link", name="First question").click()
    expect(chat.text).to_have_text(words(20))
    expect(chat.list.get_by_role("link", name="First question")).not_to_contain_text("New answer")


HOSTILE = """<img src=x onerror="alert(1)"> <script>alert(2)</script>

[click me](javascript:alert(3)) [data](data:text/html,<script>alert(4)</script>) ![pixel](https://evil.example/track.png)

<svg onload=alert(5)><iframe srcdoc="<script>alert(6)</script>"></iframe>

<https://example.org/"onmouseover="alert(7)>

| a | b |
|:-:|--:|
| <b onclick=alert(8)>x</b> | y |

```html"><img src=x onerror=alert(9)>
<script>alert(10)</script>
```

שלום עולם, זהו טקסט מימין לשמאל.

Emoji 👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u202e reversed \u202c done \x00 end.

<style>body{display:none}</style> <a href="javascript&colon;alert(11)">x</a>
"""


def test_a_hostile_answer_is_shown_harmlessly(make_device: MakeDevice, model_server: ModelServer, watch: Watch) -> None:
    model = model_server.add(
        {"answers": [{"steps": [{"text": HOSTILE}, {"text": "Long: " + "lorem ipsum " * 17_000}]}]}
    )
    chat = make_device(model)()

    chat.say("<img src=x onerror=alert(12)>")
    chat.wait_ended(60)

    expect(chat.text).to_contain_text("lorem ipsum lorem", timeout=60_000)
    expect(chat.text).to_contain_text('<img src=x onerror="alert(1)">')
    page = chat.page
    assert page.locator(".turn :is(img, script, iframe, svg:not(.icon), style, object, form, input)").count() == 0
    attributes = page.eval_on_selector_all(
        ".turn .content *, .bubble *", "all => all.flatMap(e => [...e.attributes].map(a => a.name))"
    )
    assert not [name for name in attributes if name.startswith("on") or name == "style"]
    links = page.eval_on_selector_all(".turn .text a", "all => all.map(a => [a.protocol, a.rel, a.target])")
    assert links
    assert {protocol for protocol, _, _ in links} <= {"http:", "https:"}
    assert all("noopener" in rel and target == "_blank" for _, rel, target in links)
    rtl = page.locator(".text p", has_text="שלום")
    assert rtl.evaluate("p => getComputedStyle(p).direction") == "rtl"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert watch.complaints == []


def test_nothing_that_a_server_says_runs_in_the_page(make_device: MakeDevice, watch: Watch, stack: Stack) -> None:
    chat = make_device()()
    page = chat.page
    page.route("**/api/**", hostile_server.answer)

    page.goto(f"{stack.url}/#{hostile_server.CONVERSATIONS[0]}")
    page.reload()
    # All of it is near enough to be read.
    page.set_viewport_size({"width": 1200, "height": 30_000})
    expect(page.locator(".conversations .title")).to_have_count(len(PAYLOADS))
    expect(page.locator("#agent option")).to_have_count(len(PAYLOADS))
    expect(chat.turns).to_have_count(len(hostile_server.GROUPS))
    expect(page.locator(".steps")).to_have_count(len(hostile_server.GROUPS))
    page.eval_on_selector_all(".reveal:not([hidden])", "all => all.forEach(button => button.click())")
    expect(page.locator(".step.tool")).to_have_count(len(PAYLOADS))
    page.eval_on_selector_all(".step", "all => all.forEach(step => { step.open = true })")
    expect(page.locator(".step pre")).to_have_count(2 * len(PAYLOADS))
    expect(page.locator(".turn[aria-busy]")).to_have_count(0)

    def texts(selector: str) -> list[str]:
        return list(page.eval_on_selector_all(selector, "all => all.map(each => each.textContent)"))

    # Each payload is there as the text that it is; an answer is what Markdown makes of it.
    assert texts(".conversations .title") == PAYLOADS
    assert page.title() == f"{PAYLOADS[0]} · Backchat"
    assert texts("#agent option") == PAYLOADS
    assert page.eval_on_selector_all("#agent option", "all => all.map(each => each.title)") == PAYLOADS
    assert texts(".bubble") == hostile_server.GROUPS
    assert texts(".step.tool .step-title code") == PAYLOADS
    assert texts(".step.tool section:nth-child(2) pre") == PAYLOADS
    assert [json.loads(each) for each in texts(".step.tool section:nth-child(1) pre")] == [{p: p} for p in PAYLOADS]
    assert texts(".thoughts") == PAYLOADS
    for group, problem, facts in zip(hostile_server.GROUPS, texts(".problem"), texts(".facts"), strict=True):
        assert group in problem
        assert group in facts
    assert all(texts(".turn .text"))
    assert page.evaluate(hostile_server.HARM) == []

    # Found, refused and not sent.
    page.get_by_role("searchbox").fill("anything")
    expect(page.locator(".snippet").last).to_contain_text("Found:")
    assert texts(".snippet") == [f"Found: {payload}" for payload in PAYLOADS]
    chat.field.fill("Hello")
    chat.field.press("Enter")
    expect(chat.turn.locator(".problem")).to_contain_text(PAYLOADS[0])
    assert page.evaluate(hostile_server.HARM) == []
    assert watch.complaints == []
    page.evaluate("document.body.append(document.createElement('iframe'))")
    assert page.evaluate(hostile_server.HARM) != []


def test_without_routes_of_conversations_the_page_lists_sessions(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack
) -> None:
    model = model_server.add({"answers": [{"steps": [{"text": "Fine."}]}]})
    device = make_device(model)
    chat = device()
    chat.page.context.route(
        re.compile("/api/(conversations|agents)"),
        lambda route: route.fulfill(status=404, content_type="application/problem+json", body='{"code": "not_found"}'),
    )
    chat.page.reload()
    chat = Chat(chat.page)

    chat.say("Only sessions here")
    chat.wait_ended()
    chat.page.reload()

    chat.list.get_by_role("link", name="Only sessions here").click()
    expect(chat.text).to_have_text("Fine.")


def test_a_failure_is_told_in_words_and_can_be_retried(make_device: MakeDevice, model_server: ModelServer) -> None:
    model = model_server.add(
        {"answers": [{"steps": [{"text": "Half an "}], "fault": {"status": 401, "body": {}, "times": 1}}]}
    )
    chat = make_device(model)()

    chat.say("Fail first")
    chat.wait_ended()
    expect(chat.turn.locator(".problem")).to_contain_text("refused the server’s credentials")
    chat.turn.get_by_role("button", name="Ask again").click()

    expect(chat.turns).to_have_count(2)
    chat.wait_ended()
    expect(chat.text).to_have_text("Half an")


def test_an_answer_that_reached_the_models_limit_says_so_also_after_a_reload(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    model = model_server.add({"answers": [{"steps": [{"text": "Once upon a time"}], "cut_off": True}]})
    chat = make_device(model)()

    chat.say("Tell me all")
    chat.wait_ended()

    note = "The model reached the limit of its output here."
    expect(chat.turn).to_contain_text(note)
    chat.page.reload()
    expect(chat.turn).to_contain_text(note)


def test_a_russian_browser_is_spoken_to_in_russian(make_device: MakeDevice, model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [{"text": "Да."}], "usage": usage(1, 1)}]})
    page = make_device(model, locale="ru-RU")().page

    page.get_by_role("textbox", name="Сообщение").fill("Работает?")
    page.keyboard.press("Enter")

    expect(page.get_by_role("article")).to_contain_text("2 токена")
    assert page.evaluate("document.documentElement.lang") == "ru"


def test_a_reload_before_the_answer_to_the_message_sends_it_once(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack
) -> None:
    model = model_server.add({"answers": [{"steps": [{"text": "Once."}]}]})
    device = make_device(model)
    chat = device()
    held: list[Any] = []

    def lose_answer(route: Any) -> None:
        # It arrives, but the page is gone before the answer is.
        if held:
            return route.fallback()
        held.append(route.fetch(post_data=route.request.post_data.replace("{", f'{{"model":"openai-chat:{model}",', 1)))
        return None

    chat.page.route("**/api/chat/session", lose_answer)
    chat.say("Only once, please")
    wait_until(lambda: chat.page.evaluate("1") and held, "the message arrived")

    chat.page.reload()

    again = Chat(chat.page)
    again.wait_ended()
    expect(again.text).to_have_text("Once.")
    expect(again.turns).to_have_count(1)
    assert len(stack.get(f"/api/chat/sessions?conversationId={again.conversation}")["sessions"]) == 1


@pytest.mark.parametrize(("transport", "most"), [("sse", 2), ("wait", 90), ("poll", 8)])
def test_the_client_follows_by_any_transport(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack, transport: str, most: int
) -> None:
    model = model_server.add({"answers": [{"steps": [{"delay": 2}, streaming(40, 0.1)]}]})
    chat = make_device()()
    session_id = stack.ask("Any transport", model=f"openai-chat:{model}")["sessionId"]

    seen = chat.page.evaluate(
        """async ([sessionId, transport]) => {
          const { createClient } = await import('/web/client.js')
          const client = createClient({ transport, storage: null, channel: null })
          const seqs = []
          const state = await client.follow(sessionId, { onEvent: event => seqs.push(event.seq) })
          client.close()
          return { seqs, text: state.text, status: state.status }
        }""",
        [session_id, transport],
    )

    requests = [request for request in chat.requests if session_id in request.url]
    assert seen["status"] == "done"
    assert seen["text"].strip() == words(40)
    assert seen["seqs"] == list(range(1, len(seen["seqs"]) + 1))
    assert len(requests) <= most
