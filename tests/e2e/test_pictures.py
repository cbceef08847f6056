"""The pictures of the README. `make test ARGS=tests/e2e/test_pictures.py` with UPDATE_IMAGES=1 takes them anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.browser import Chat
from tests.model_server import ModelServer
from tests.servers import wait_until
from tests.stack import Stack

MakeDevice = Callable[..., Callable[..., Chat]]

QUESTION = (
    "We ship 2,340 orders a month and 17 % come back. What does that cost at 8.50 € each, and when does Tokyo open?"
)
REASONING = (
    "The returns are 17 % of 2,340. I multiply them by the cost of one. For Tokyo I need the current time there; "
    "I will calculate exactly instead of guessing. "
)
ANSWER = """About **398 orders** come back each month, which costs **3,381.30 €**.

| | per month | per year |
|---|--:|--:|
| Orders | 2,340 | 28,080 |
| Returned (17 %) | 397.8 | 4,773.6 |
| Cost at 8.50 € | 3,381.30 € | 40,575.60 € |

In Tokyo it is early in the morning; the office opens at 9:00 there, which is 1:00 in Berlin. To follow it from code:

```js
const orders = 2340
const cost = orders * 0.17 * 8.5   // 3381.3
```

Halving the rate of returns would save about 20,000 € a year.
"""


def tool(index: int, name: str, arguments: str) -> dict[str, Any]:
    return {"tool": {"index": index, "id": f"call-{index}", "name": name, "arguments": arguments}}


def script(pace: float) -> dict[str, Any]:
    """The answer, *pace* seconds for each word of it."""
    first = [
        {"reasoning": REASONING[:90]},
        {"delay": min(pace * 20, 1.5)},
        {"reasoning": REASONING[90:]},
        tool(0, "calculate", '{"expression": "2340 * 0.17 * 8.5"}'),
        tool(1, "current_time", '{"zone": "Asia/Tokyo"}'),
    ]
    pieces = [word + " " for word in ANSWER.split(" ")]
    second = [step for word in pieces for step in ({"text": word}, {"delay": pace})]
    usage = {"prompt_tokens": 1480, "completion_tokens": 264, "cached_tokens": 1024}
    none = {"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0}
    return {"answers": [{"steps": first, "usage": none}, {"steps": second, "usage": usage}]}


def test_the_page_looks_as_its_pictures_say(
    make_device: MakeDevice, model_server: ModelServer, stack: Stack, pictures: Path
) -> None:
    short = model_server.add({"answers": [{"steps": [{"text": "Done."}]}]})
    endless = model_server.add({"answers": [{"steps": [{"stall": True}]}]})
    for message, model in (
        ("Summarise the notes of the last release", short),
        ("Draft a reply to the landlord", short),
        ("Compare the three hosting offers", endless),
        ("Why does the import take so long?", short),
    ):
        stack.ask(message, model=f"openai-chat:{model}")
    wait_until(lambda: len(stack.get("/api/chat/sessions?status=running")["sessions"]) == 1, "the short ones are done")
    size = {"width": 1280, "height": 860}

    light = make_device(model_server.add(script(0.12)), viewport=size)()
    light.say(QUESTION)
    light.wait_text("Returned (17 %)")
    light.page.wait_for_timeout(700)
    light.page.screenshot(path=pictures / "page-light.png")
    light.wait_ended(60)

    dark = make_device(viewport=size, color_scheme="dark")(f"/#{light.conversation}")
    dark.wait_text("Halving")
    dark.page.wait_for_timeout(500)
    dark.turn.locator(".step.tool summary").first.click()
    dark.page.locator("#scroller").evaluate("scroller => scroller.scrollTo(0, 0)")
    dark.page.wait_for_timeout(300)
    dark.page.screenshot(path=pictures / "page-dark.png")

    phone = make_device(viewport={"width": 390, "height": 844}, device_scale_factor=2, has_touch=True, is_mobile=True)(
        f"/#{light.conversation}"
    )
    phone.wait_text("Halving")
    phone.page.wait_for_timeout(500)
    phone.page.locator("#scroller").evaluate("scroller => scroller.scrollTo(0, 0)")
    phone.page.wait_for_timeout(300)
    phone.page.screenshot(path=pictures / "page-phone.png")
    phone.page.get_by_role("button", name="Open the list").click()
    expect(phone.list.get_by_role("link", name="Compare the three")).to_contain_text("Working")
    phone.page.wait_for_timeout(400)
    phone.page.screenshot(path=pictures / "page-phone-list.png")

    for chat in (light, dark, phone):
        assert chat.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
