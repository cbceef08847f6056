"""The documentation quotes the files of `examples/`, and names none that is not there."""

from __future__ import annotations

import re

from tests.servers import ROOT

PAGES = {
    str(page.relative_to(ROOT)): page.read_text("utf-8") for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
}


def test_what_is_quoted_is_the_text_of_the_file() -> None:
    quoted = {
        name: text
        for page in PAGES.values()
        for name, text in re.findall(
            r"^```\w+\n(?:#|//) (examples/[\w./-]+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL
        )
    }

    files = [path for path in ROOT.glob("examples/**/*") if path.is_file() and "__pycache__" not in path.parts]
    assert quoted == {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in files}


def test_every_example_that_is_named_exists() -> None:
    named = {name for page in PAGES.values() for name in re.findall(r"\bexamples[/.]\w+(?:\.\w+)?", page)}

    # `examples/dice.py`, and `examples.calendar_tools:note`.
    paths = {name if "/" in name else name.replace(".", "/", 1) + ".py" for name in named}
    assert {"examples/agents.toml", "examples/recite.py", "examples/calendar_tools.py"} <= paths
    assert [path for path in sorted(paths) if not (ROOT / path).is_file()] == []
