"""The browser client's own tests, which run in Node (tests/web)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.servers import ROOT

WEB_TESTS = ROOT / "tests" / "web"


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=WEB_TESTS, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_the_client_keeps_its_promises_in_node(node_modules: Path) -> None:
    run("node", "--test")


def test_the_browser_code_is_typed_strictly(node_modules: Path) -> None:
    run(node_modules / ".bin" / "tsc", "-p", ".")


def test_the_shipped_declarations_are_those_of_the_code(node_modules: Path, tmp_path: Path) -> None:
    run("node", "declarations.js", tmp_path)

    assert declarations(ROOT / "app/web") == declarations(tmp_path), "run `npm run declarations` in tests/web"


def declarations(folder: Path) -> dict[str, str]:
    files = [folder / "client.d.ts", *sorted((folder / "client").glob("**/*.d.ts"))]
    return {str(file.relative_to(folder)): file.read_text("utf-8") for file in files}
