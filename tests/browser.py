"""The chat page as a person sees it, for tests that drive Chromium."""

from __future__ import annotations

import json
import re
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page, Request, Route, expect

from tests.servers import PATIENCE_S

#: Taken all along: what the answer says, every 50 ms.
_SAMPLER = """() => {
  window.samples = []
  setInterval(() => {
    const turns = document.querySelectorAll('.turn')
    const texts = turns.length ? turns[turns.length - 1].querySelectorAll('.text') : []
    const text = [...texts].map(text => text.textContent).join('|')
    if (text !== window.samples[window.samples.length - 1]) window.samples.push(text)
  }, 50)
}"""


class Watch:
    """Notes what should not happen on any page: errors, forbidden loads, requests to other hosts, dialogs."""

    def __init__(self) -> None:
        self.complaints: list[str] = []

    def over(self, page: Page, origin: str) -> None:
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("request", lambda request: self._request(request.url, origin))

    def _console(self, kind: str, text: str) -> None:
        # The network failing is what some tests are about; what the page makes of it is what they check.
        if kind in ("error", "warning") and not re.search(r"Failed to load resource|net::ERR", text):
            self.complaints.append(f"{kind}: {text}")

    def _request(self, url: str, origin: str) -> None:
        if not url.startswith((origin, "blob:", "data:")):
            self.complaints.append(f"request: {url}")


class Chat:
    """One tab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.field = page.get_by_role("textbox", name="Message")
        self.list = page.get_by_role("navigation", name="Conversations")
        self.turns = page.get_by_role("article")
        self.requests: list[Request] = []
        page.on("request", lambda request: self.requests.append(request))
        page.evaluate(_SAMPLER)

    @staticmethod
    def answer_with(context: BrowserContext, model: str) -> None:
        """Let every message of this profile be answered by *model*."""

        def choose(route: Route) -> None:
            body: dict[str, Any] = json.loads(route.request.post_data or "{}")
            route.continue_(post_data=json.dumps(body | {"model": model}))

        context.route("**/api/chat/session", choose)

    def say(self, message: str) -> None:
        before = self.turns.count()
        self.field.fill(message)
        self.field.press("Enter")
        expect(self.turns).to_have_count(before + 1)

    @property
    def turn(self) -> Locator:
        """The newest one."""
        return self.turns.last

    @property
    def text(self) -> Locator:
        """The text of the newest answer."""
        return self.turn.locator(".text").last

    @property
    def conversation(self) -> str:
        return self.page.url.partition("#")[2]

    def wait_ended(self, timeout_s: float = PATIENCE_S) -> None:
        expect(self.turn).to_have_attribute("data-phase", "ended", timeout=timeout_s * 1000)
        # All of it is on the page, too.
        expect(self.turn).not_to_have_attribute("aria-busy", "true")

    def wait_text(self, part: str | re.Pattern[str], timeout_s: float = PATIENCE_S) -> None:
        expect(self.text).to_contain_text(part, timeout=timeout_s * 1000)

    def samples(self) -> list[str]:
        """All that the newest answer said since the tab was opened."""
        return list(self.page.evaluate("window.samples"))

    def polls(self) -> list[Request]:
        return [request for request in self.requests if "/events?" in request.url]

    def become(self, state: str) -> None:
        """Make the tab believe that it is `hidden` or `visible`, as it is when another is in front."""
        self.page.evaluate(
            """state => {
              Object.defineProperty(document, 'visibilityState', { value: state, configurable: true })
              Object.defineProperty(document, 'hidden', { value: state === 'hidden', configurable: true })
              document.dispatchEvent(new Event('visibilitychange'))
            }""",
            state,
        )
