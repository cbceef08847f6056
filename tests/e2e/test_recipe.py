"""The README's lines as they are pasted, and what the page shows meanwhile."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import Chat, Watch
from tests.servers import ROOT, Process, binary, free_port
from worker.engine.demo.texts import CODE

START_S = 90.0
README = (ROOT / "README.md").read_text("utf-8")


def lines_of(section: str) -> list[str]:
    """The blocks of shell lines below a heading of the README."""
    text = README.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Clone:
    """A clone in which `make run` runs."""

    folder: Path
    port: int
    run: Process

    def paste(self, lines: str, program: str = "sh", ending: str = "sh") -> Process:
        """A shell, or another *program*, that reads *lines*, in which only the port is another one."""
        script = self.folder / f"pasted.{ending}"
        script.write_text(lines.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}"))
        # What a terminal has, and where the command line finds the server.
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PORT": str(self.port)}
        return Process([program, str(script)], log=self.folder / "pasted.log", environment=environment, cwd=self.folder)

    def get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/chat/{path}", timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
            return answer


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """With the environment of the tests, and without the wait of ten seconds for a worker that is not heard of."""
    binary("curl")
    folder = tmp_path_factory.mktemp("recipe") / "a clone"
    for name in ("app", "worker", "migrations"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    port = free_port()
    environment = {"PORT": str(port), "PYTHONPATH": "", "LEASE_S": "2", "SWEEP_S": "0.5", "STOP_GRACE_S": "1"}
    with Process.python("-m", "app.dev", log=folder / "run.log", environment=environment, cwd=folder) as run:
        run.wait_for_line("Backchat runs at", START_S)
        yield Clone(folder, port, run)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_goes_on_after_the_worker_was_killed_in_mid_answer(
    clone: Clone, browser: Browser, watch: Watch
) -> None:
    [recipe] = lines_of("See it survive")
    assert len(recipe.splitlines()) == 4
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    watch.over(page, f"http://127.0.0.1:{clone.port}")

    with clone.paste(recipe) as shell:
        page.goto(shell.wait_for_line("^watch http").removeprefix("watch "))
        chat = Chat(page)
        chat.wait_text("How background jobs survive a restart")
        clone.run.wait_for_line("make run: the worker was killed by SIGKILL; another one is started now$")
        expect(chat.turn).to_have_attribute("data-phase", "running")
        expect(chat.turn).to_contain_text("The run was interrupted and goes on from its last checkpoint")
        chat.wait_ended()
        assert shell.wait() == 0, shell

    [session] = [row for row in clone.get("sessions")["sessions"] if row["userMessage"].startswith("Explain how")]
    events = clone.get(f"session/{session['sessionId']}/events?after=0")["events"]
    kinds = [event["eventType"] for event in events]
    # It was in mid-answer; nothing is missing, and what was recorded was not done again.
    assert (session["status"], session["attempt"]) == ("done", 2)
    assert {event["attempt"] for event in events if event["eventType"] == "delta"} == {1, 2}
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (kinds.count("tool_call"), kinds.count("done"), kinds[-1]) == (2, 1, "done")
    # The page and the command have all of it, once.
    sentences = [found.strip() for found in re.findall(r"[^.*`|\n]{30,}\.", session["finalResponse"])]
    shown = chat.turn.locator(".answer").inner_text()
    assert len(sentences) > 5
    assert {sentence: shown.count(sentence) for sentence in sentences} == dict.fromkeys(sentences, 1)
    assert shell.output.count(session["finalResponse"]) == 1
    assert chat.turns.count() == 1
    context.close()


def test_the_first_lines_need_no_id_to_be_filled_in(clone: Clone) -> None:
    start, *lines = lines_of("Run it")

    with clone.paste("\n".join(lines)) as shell:
        assert shell.wait() == 0, shell

    asked, page, recent, cancelled = (json.loads(line) for line in shell.output.replace("}{", "}\n{").splitlines())
    assert start == "make run\n"
    assert asked["status"] == "running"
    assert page["sessionId"] == asked["sessionId"] == cancelled["sessionId"]
    assert asked["sessionId"] in [row["sessionId"] for row in recent["sessions"]]
    assert cancelled["status"] in ("error", "done")


def test_the_lines_that_a_run_proposes_need_none_either(clone: Clone) -> None:
    proposed = [line.strip() for line in clone.run.output.splitlines() if line.startswith("  ")]

    with clone.paste("\n".join(proposed)) as shell:
        assert shell.wait() == 0, shell

    assert len(proposed) == 3
    assert "pollAfterMs" in json.loads(shell.output)


@pytest.mark.parametrize(
    ("language", "program", "ending", "last"),
    [
        ("python", sys.executable, "py", r"^\d+ done .*"),
        ("javascript", "node", "mjs", r"^\d+ done .*"),
        ("shell", "sh", "sh", '"nextCursor":'),
    ],
)
def test_the_code_that_the_demo_model_shows_runs(
    clone: Clone, language: str, program: str, ending: str, last: str
) -> None:
    [code] = re.findall(r"^```\w+\n(.*?)^```", CODE[language], re.MULTILINE | re.DOTALL)

    with clone.paste(code, binary(program), ending) as process:
        assert process.wait() == 0, process

    assert re.search(last, process.output, re.MULTILINE), process
