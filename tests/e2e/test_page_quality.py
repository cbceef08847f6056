"""What is not seen at once: access by keyboard and screen reader, steadiness, speed, and Markdown that grows."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser import Chat
from tests.model_server import ModelServer
from tests.servers import ROOT, wait_until
from tests.stack import Stack

Device = Callable[..., Chat]
MakeDevice = Callable[..., Device]

ANSWER = """## A heading

Some *text* with `code`, a [link](https://example.org) and a list:

1. one
2. two

| a | b |
|---|--:|
| 1 | 2 |

```python
print("hello")
```

> A quote.
"""
ANSWERED = {
    "answers": [
        {
            "steps": [
                {"reasoning": "Let me think about it."},
                {"tool": {"index": 0, "id": "a", "name": "calculate", "arguments": '{"expression": "6 * 7"}'}},
            ]
        },
        {"steps": [{"hold": True}, {"text": ANSWER}]},
    ]
}


@pytest.fixture(scope="session")
def axe(node_modules: Path) -> str:
    return (node_modules / "axe-core" / "axe.min.js").read_text("utf-8")


def violations(page: Page, axe: str) -> list[str]:
    """What axe finds, in light and in dark colours."""
    if page.evaluate("!window.axe"):
        page.evaluate(axe)
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found += page.evaluate("axe.run(document, { resultTypes: ['violations'] }).then(result => result.violations)")
    return [f"{each['id']}: {[node['html'][:200] for node in each['nodes']]}" for each in found]


@pytest.mark.parametrize("width", [1200, 390])
def test_axe_finds_no_violation(make_device: MakeDevice, model_server: ModelServer, axe: str, width: int) -> None:
    model = model_server.add(ANSWERED)
    chat = make_device(model, viewport={"width": width, "height": 800})()
    page = chat.page

    assert violations(page, axe) == []

    chat.say("Show me everything")
    expect(chat.turn.locator(".step.tool")).to_have_attribute("data-state", "ok")
    expect(chat.turn).to_have_attribute("data-phase", "running")
    assert violations(page, axe) == []
    model_server.release(model)
    chat.wait_ended()
    for step in page.locator(".step summary").all():
        step.click()
    assert violations(page, axe) == []

    chat.turn.get_by_role("button", name="Delete").click()
    assert violations(page, axe) == []
    page.get_by_role("button", name="Cancel").click()
    if width == 390:
        page.get_by_role("button", name="Open the list").click()
        assert violations(page, axe) == []


def test_the_keyboard_alone_does_it_all(make_device: MakeDevice, model_server: ModelServer) -> None:
    model = model_server.add(ANSWERED)
    model_server.release(model)
    chat = make_device(model)()
    page = chat.page
    keys = page.keyboard

    def tab_to(pattern: str, *, back: bool = False, limit: int = 40) -> None:
        for _ in range(limit):
            keys.press("Shift+Tab" if back else "Tab")
            name = page.evaluate(
                "(e => (e.getAttribute('aria-label') || e.innerText || e.id || '').trim())(document.activeElement)"
            )
            if re.search(pattern, name):
                outlined = page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'")
                assert outlined or "message" in name, name
                return
        raise AssertionError(f"{pattern} can't be reached")

    expect(chat.field).to_be_focused()
    keys.type("First line")
    keys.press("Shift+Enter")
    keys.type("second line")
    keys.press("Enter")
    chat.wait_ended()
    expect(chat.turn.locator(".bubble")).to_have_text("First line\nsecond line")
    expect(chat.field).to_be_focused()

    tab_to("Delete this message", back=True)
    tab_to("Ask again", back=True)
    tab_to("Copy the answer", back=True)
    tab_to("calculate", back=True)
    keys.press("Enter")
    expect(chat.turn.locator(".step.tool pre").last).to_have_text("42")
    tab_to("Delete this message")
    keys.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    keys.press("Escape")
    expect(page.get_by_role("button", name="Delete this message")).to_be_focused()

    tab_to("Rename|Delete the conversation", back=True)
    tab_to("First line", back=True)
    tab_to("Search", back=True)
    keys.type("nothing like this")
    expect(chat.list.get_by_text("Nothing found.")).to_be_visible()
    tab_to("New conversation", back=True)
    keys.press("Enter")
    expect(chat.turns).to_have_count(0)
    expect(chat.field).to_be_focused()
    tab_to("Search", back=True)
    keys.press("Control+A")
    keys.press("Delete")
    expect(chat.list.get_by_role("link", name="First line")).to_be_visible()
    tab_to("First line")
    keys.press("Enter")
    expect(chat.turns).to_have_count(1)
    tab_to("Delete the conversation")
    keys.press("Enter")
    tab_to("^Delete$")
    keys.press("Enter")
    expect(chat.list.get_by_role("link", name="First line")).to_have_count(0)
    expect(chat.turns).to_have_count(0)


def test_a_run_is_stopped_by_keyboard(make_device: MakeDevice, model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [{"repeat": {"text": "x ", "count": 400, "every": 0.1}}]}]})
    chat = make_device(model)()
    chat.say("Stop me")
    chat.wait_text("x x")

    chat.field.press("Tab")
    expect(chat.page.get_by_role("button", name="Stop").last).to_be_focused()
    chat.page.keyboard.press("Enter")

    chat.wait_ended()
    expect(chat.page.get_by_role("status")).to_have_text("Stopped.")


def test_a_second_press_on_stop_asks_nothing_again(make_device: MakeDevice, model_server: ModelServer) -> None:
    model = model_server.add({"answers": [{"steps": [{"stall": True}]}]})
    chat = make_device(model)()
    chat.say("Stop me twice")
    chat.turn.get_by_role("button", name="Stop").focus()

    chat.page.keyboard.press("Enter")
    chat.wait_ended()
    chat.page.keyboard.press("Enter")

    expect(chat.turn.locator(".content")).to_be_focused()
    chat.page.keyboard.press("Tab")
    expect(chat.turn.get_by_role("button", name="Ask again")).to_be_focused()
    expect(chat.turns).to_have_count(1)


def test_a_screen_reader_is_told_politely_what_happens_and_not_each_word(
    make_device: MakeDevice, model_server: ModelServer
) -> None:
    model = model_server.add({"answers": [{"steps": [{"repeat": {"text": "x ", "count": 30, "every": 0.1}}]}]})
    chat = make_device(model)()
    chat.page.evaluate(
        """() => {
          window.said = []
          const region = document.getElementById('announcer')
          new MutationObserver(() => window.said.push(region.textContent)).observe(region, { childList: true })
        }"""
    )

    chat.say("Speak")
    chat.wait_ended()

    assert chat.page.evaluate("said") == ["Message sent. The answer is being made.", "The answer is complete."]


def test_nothing_jumps_while_text_streams(make_device: MakeDevice, model_server: ModelServer) -> None:
    line = "A line of text that is long enough to be wrapped somewhere, number {i}.\n\n"
    first = [
        {"reasoning": "Thinking about it."},
        {"tool": {"index": 0, "id": "a", "name": "current_time", "arguments": "{}"}},
    ]
    second = [{"repeat": {"text": line, "count": 60, "every": 0.1}}]
    model = model_server.add({"answers": [{"steps": first}, {"steps": second}]})
    chat = make_device(model)()
    chat.page.evaluate(
        """() => {
          window.moved = []
          // The list makes room for the new conversation, and may.
          const move = entry => entry.sources.filter(({ node }) => scroller.contains(node))
            .map(({ node, previousRect: { y }, currentRect: { y: now } }) => `${node.className} from ${y} to ${now}`)
          new PerformanceObserver(list => window.moved.push(...list.getEntries().flatMap(move)))
            .observe({ type: 'layout-shift', buffered: false })
        }"""
    )

    chat.say("Stream")
    chat.wait_ended()
    chat.page.wait_for_timeout(500)

    # Only the line that follows the text, down as the text grows.
    moved = chat.page.evaluate("moved")
    assert moved
    downwards = [re.fullmatch(r"foot from ([\d.]+) to ([\d.]+)", move) for move in moved]
    assert all(move and float(move[2]) > float(move[1]) for move in downwards), moved
    assert chat.page.evaluate("scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop") < 4


def test_reading_above_is_not_disturbed_by_what_comes_below(make_device: MakeDevice, model_server: ModelServer) -> None:
    line = "A line of text, number {i}.\n\n"
    model = model_server.add({"answers": [{"steps": [{"repeat": {"text": line, "count": 120, "every": 0.05}}]}]})
    chat = make_device(model)()
    chat.say("Stream")
    chat.wait_text("number 40")

    chat.page.mouse.move(700, 300)
    chat.page.mouse.wheel(0, -500)
    chat.page.wait_for_timeout(200)
    top = chat.page.evaluate("scroller.scrollTop")
    chat.wait_ended()

    assert abs(chat.page.evaluate("scroller.scrollTop") - top) < 2
    chat.page.get_by_role("button", name="Jump to the latest").click()
    end = "scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop < 4"
    wait_until(lambda: chat.page.evaluate(end), "it is scrolled to the end")


def long_session(session_id: str, count: int) -> list[dict[str, Any]]:
    """Thoughts, calls and text in turn, *count* events in all, without an end."""
    events: list[dict[str, Any]] = []
    for seq in range(1, count + 1):
        base = {"id": seq, "sessionId": session_id, "seq": seq, "attempt": 1, "createdAt": "2026-01-01T00:00:00.000Z"}
        call = {"toolCallId": f"c{seq // 5}", "toolName": "search", "toolArgs": {"query": f"number {seq // 5}"}}
        event: dict[str, Any] = [
            {"eventType": "thinking", "content": f"Thought {seq}. "},
            {"eventType": "tool_call", **call, "toolSuccess": None},
            {"eventType": "tool_call", **call, "toolSuccess": True, "toolResult": "r" * 500, "durationMs": 3},
            {
                "eventType": "delta",
                "content": f"Paragraph {seq} with **bold** text and `code`. {'Some more words. ' * 8}\n\n",
            },
            {"eventType": "delta", "content": f"- item {seq}\n- [link](https://example.org/{seq})\n\n"},
        ][seq % 5]
        events.append(base | event)
    return events


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_session_of_5000_events_and_200_kilobytes_never_blocks_typing(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack
) -> None:
    # The browser is measured, so the events come from here: the server has its own benchmarks.
    model = model_server.add({"answers": [{"steps": [{"stall": True}]}]})
    started = stack.ask("Long", model=f"openai-chat:{model}")
    session_id, conversation = started["sessionId"], started["conversationId"]
    events = long_session(session_id, 5500)
    assert sum(len(event.get("content", "")) for event in events) > 200_000
    known = 5000

    def answer(route: Route) -> None:
        nonlocal known
        after = int(re.search(r"after=(\d+)", route.request.url)[1])  # type: ignore[index]
        if after >= known:
            known = min(known + 100, len(events))
        page = events[after : min(after + 500, known)]
        body = {
            "sessionId": session_id,
            "status": "running",
            "events": page,
            "nextAfter": after + len(page),
            "hasMore": after + len(page) < known,
            "pollAfterMs": 1500,
        }
        route.fulfill(status=200, content_type="application/json", body=json.dumps(body))

    device = make_device()
    chat = device()
    page = chat.page
    page.context.route(f"**/api/chat/session/{session_id}/events?**", answer)
    page.evaluate(
        """() => {
          window.slow = []
          new PerformanceObserver(list => window.slow.push(...list.getEntriesByName('keydown').map(e => e.duration)))
            .observe({ type: 'event', durationThreshold: 16 })
          window.tasks = []
          new PerformanceObserver(list => window.tasks.push(...list.getEntries().map(e => e.duration)))
            .observe({ type: 'longtask' })
        }"""
    )

    def typing(text: str) -> float:
        """The usual time from a key to its letter on the screen, in ms."""
        page.evaluate("slow.length = 0")
        page.keyboard.type(text, delay=15)
        page.wait_for_timeout(200)
        slow = sorted(page.evaluate("slow"), reverse=True)
        # What takes less than 16 ms is not reported.
        return float(slow[len(text) // 2]) if len(slow) > len(text) // 2 else 8.0

    chat.field.focus()
    idle = typing("typing at rest " * 4)
    page.evaluate(f"location.hash = '#{conversation}'")
    chat.field.focus()
    busy = typing("typing while it is drawn " * 8)
    expect(chat.turn).to_contain_text("Paragraph 5498", timeout=120_000)
    done = typing("and when it is there " * 4)

    expect(chat.field).to_have_value(re.compile("^(typing while it is drawn ){8}(and when it is there ){4}$"))
    longest = page.evaluate("Math.max(0, ...tasks)")
    print(f"a key takes {idle:.0f} ms at rest, {busy:.0f} ms while drawing, {done:.0f} ms after; task {longest:.0f} ms")
    # A quiet machine shows a tenth of this; a page that blocks would show seconds even there.
    assert busy < 300 + 3 * idle
    assert done < 300 + 3 * idle
    assert longest < 1500
    assert page.evaluate("document.querySelectorAll('.step').length") < 3000
    stack.call("POST", f"/api/chat/session/{session_id}/cancel")


def test_a_long_text_has_one_direction_that_of_its_first_letter(make_device: MakeDevice) -> None:
    chat = make_device()()
    direction = "field => [field.dir, getComputedStyle(field).direction]"

    chat.field.fill("1. שלום " * 2_000)
    long = chat.field.evaluate(direction)
    chat.field.fill("שלום")
    short = chat.field.evaluate(direction)
    chat.page.keyboard.insert_text(" and Hello" * 2_000)

    assert long == ["rtl", "rtl"]
    assert short == ["auto", "rtl"]
    assert chat.field.input_value().startswith("שלום and Hello")
    chat.page.reload()
    expect(chat.field).to_have_attribute("dir", "rtl")


def test_growing_markdown_looks_at_every_moment_as_if_it_were_parsed_at_once(make_device: MakeDevice) -> None:
    page = make_device()().page
    source = (
        ANSWER
        + "\n1. a\n\n2. b\n   - c\n\n   d\n3. e\n\nsetext\n---\n\n- x\n\n- y\n\n  z\n\n[late]: https://example.org/late\n\n"
        + "See [late] and **bold\nover lines**\n\n~~~js\nlet a = `b`\n~~~\n\n"
        + "    indented\n\n***\n\n> q\n> r\nlazy\n\n- [ ] open\n- [x] done\n\n  more\n\n* * *\nend\r\nof\rall"
    )

    differing = page.evaluate(
        """async source => {
          const { MarkdownView } = await import('/web/markdown.js')
          const render = (steps) => {
            const view = new MarkdownView(document.createElement('div'))
            for (const [text, last] of steps) {
              view.set(text, last)
              while (view.pending) view.work(Infinity)
            }
            return view.element.innerHTML.replace(/\\n+/g, '\\n')
          }
          const differing = []
          const all = Array.from(source, (_, n) => [source.slice(0, n), false])
          for (let end = 1; end <= source.length; end += 19) {
            // As it grew to here, one character at a time, against all of it at once.
            const grown = render([...all.slice(0, end), [source.slice(0, end), true]])
            const once = render([[source.slice(0, end), true]])
            if (grown !== once) differing.push([source.slice(0, end), grown, once])
          }
          // Text that a later attempt took back.
          const other = source.slice(0, 90) + 'another end'
          const back = render([[source, false], [other, false], [other, true]])
          if (back !== render([[other, true]])) differing.push(['taken back', back])
          return differing
        }""",
        source,
    )

    assert differing == []


def shown(page: Page, markdown: str) -> Locator:
    """*markdown* as the text of an answer, at the end of the thread."""
    page.evaluate(
        """async source => {
          const { MarkdownView } = await import('/web/markdown.js')
          const text = document.createElement('div')
          text.className = 'text'
          document.getElementById('thread').append(text)
          const view = new MarkdownView(text)
          view.set(source, true)
          while (view.pending) view.work(Infinity)
        }""",
        markdown,
    )
    return page.locator("#thread > .text")


@pytest.mark.parametrize(
    ("markdown", "block"),
    [
        ("- עברית\n- עוד", "ul"),
        ("1. עברית\n\n2. עוד", "ol"),
        ("- עברית\n  - עוד", "ul ul"),
        ("> עברית", "blockquote"),
        ("> עברית\n>\n> - עוד", "blockquote ul"),
        ("| עברית | עוד |\n|---|---|\n| 1 | 2 |", "table"),
    ],
)
def test_bullets_quotes_and_columns_follow_the_direction_of_their_words(
    make_device: MakeDevice, markdown: str, block: str
) -> None:
    text = shown(make_device()().page, f"{markdown}\n\n# Latin again")

    assert text.locator(block).evaluate("block => getComputedStyle(block).direction") == "rtl"
    assert text.locator("h1").evaluate("heading => getComputedStyle(heading).direction") == "ltr"


def test_tasks_have_boxes(make_device: MakeDevice) -> None:
    text = shown(make_device()().page, "- [ ] open\n- [x] done **now**\n- [y] none\n- [x](https://example.org)\n")

    assert text.locator("li").all_inner_texts() == ["☐ open", "☑ done now", "[y] none", "x"]


def test_what_scrolls_on_the_screen_is_whole_on_paper(make_device: MakeDevice, model_server: ModelServer) -> None:
    wide = f"```\n{'code ' * 60}\n```\n\n|{' column |' * 20}\n|{'---|' * 20}\n|{' 12345678 |' * 20}\n"
    model = model_server.add({"answers": [{"steps": [{"text": wide}]}]})
    chat = make_device(model)()
    chat.say("line\n" * 60)
    chat.wait_ended()

    chat.page.emulate_media(media="print")

    hidden = "part => [part.scrollWidth - part.clientWidth, part.scrollHeight - part.clientHeight]"
    for part in (chat.turn.locator(".bubble"), chat.text.locator("pre"), chat.text.locator(".table")):
        assert part.evaluate(hidden) == [0, 0]
    expect(chat.text.get_by_role("button")).not_to_be_visible()


def test_no_pattern_of_text_holds_up_the_page(make_device: MakeDevice) -> None:
    page = make_device()().page
    pieces = [
        "[",
        "*a _",
        "> ",
        "`",
        "![",
        "<a",
        "- ",
        "|a",
        "\\[",
        "a\n",
        "((",
        "https://a.b/",
        "**",
        "&#",
        "[a](",
        "~~",
    ]

    slow = page.evaluate(
        """async pieces => {
          const { MarkdownView } = await import('/web/markdown.js')
          const slow = []
          for (const piece of pieces) {
            const view = new MarkdownView(document.createElement('div'))
            view.set(piece.repeat(200_000 / piece.length), true)
            while (view.pending) {
              const began = performance.now()
              view.work(began + 8)
              const took = performance.now() - began
              if (took > 1000) slow.push([piece, took])
            }
          }
          return slow
        }""",
        pieces,
    )

    assert slow == []


def test_the_vendored_libraries_are_those_of_the_registry(node_modules: Path) -> None:
    vendor = ROOT / "app" / "web" / "vendor"
    originals = {
        "markdown-it.js": "markdown-it/dist/browser/markdown-it.esm.min.mjs",
        "dompurify.js": "dompurify/dist/purify.es.mjs",
    }

    for name, original in originals.items():
        assert (vendor / name).read_bytes() == (node_modules / original).read_bytes()


def test_the_page_allows_no_inline_script_and_is_asked_for_again_each_time(stack: Stack) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", stack.port)) as connection:
        connection.request("GET", "/")
        first = connection.getresponse()
        html = first.read().decode()
        asked = []
        for path in ("/web/client.js", "/web/client/client.js"):
            connection.request("GET", path)
            script = connection.getresponse()
            script.read()
            connection.request("GET", path, headers={"If-None-Match": script.headers["ETag"]})
            again = connection.getresponse()
            again.read()
            asked.append((script.headers, again.status))

    policy = first.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=|style=", html)
    assert not re.search(r"https?://", html)
    for headers, status in asked:
        assert headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert headers["Cache-Control"] == "no-cache"
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert status == 304
