"""Whatever a run may end with, the page says it in words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.servers import ROOT
from worker.engine import failures

#: Raised by a look-up, and shown by its own code.
LOOKED_UP = {"unknown_agent", "unknown_model", "worker_lost"}


def _codes_in(source: str) -> Iterator[str]:
    """First arguments of `TurnFailed(…)` and `Error(…)` that are written out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("TurnFailed", "Error"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def error_codes() -> set[str]:
    written = {
        code
        for folder in ("app", "worker")
        for path in (ROOT / folder).rglob("*.py")
        for code in _codes_in(path.read_text("utf-8"))
    }
    of_models = {code for _, code, _ in failures._FAILURES} | set(failures._BY_STATUS.values())
    return written | of_models | LOOKED_UP


def test_every_error_code_of_a_run_has_words_in_both_languages() -> None:
    texts = "".join(path.read_text("utf-8") for path in sorted((ROOT / "app" / "web" / "texts").glob("*.js")))
    languages = re.findall(r"runErrors: \{(.*?)\n  \}", texts, re.DOTALL)

    codes = error_codes()

    assert {"cancelled", "timeout", "model_not_configured", "answer_too_large"} <= codes
    assert len(languages) == 2
    assert [codes - set(re.findall(r"^    (\w+):", words, re.MULTILINE)) for words in languages] == [set(), set()]
