"""What docs/access.md shows works as it stands there, in both languages, and gives the same token."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from app import access
from tests.servers import ROOT, binary

SECRET = "main:0123456789abcdef0123456789abcdef"
CAVEATS = {"owner": "Ёж = 100% / anna", "can": "read cancel", "session": "s-1", "expires": 4102444800}
GUIDE = (ROOT / "docs" / "access.md").read_text("utf-8")


def code(language: str) -> str:
    [found] = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(found)


def by_python(token: str) -> str:
    module: dict[str, object] = {}
    exec(code("python"), module)
    return str(module["narrowed"](token, **CAVEATS))  # type: ignore[operator]


def by_javascript(token: str, folder: Path) -> str:
    (folder / "narrow.mjs").write_text(code("js"), "utf-8")
    script = (
        f"import {{ narrowed }} from './narrow.mjs'; console.log(narrowed({json.dumps(token)}, {json.dumps(CAVEATS)}))"
    )
    command = [binary("node", "nodejs"), "--input-type=module", "-e", script]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("language", ["python", "js"])
def test_a_backend_narrows_its_issuers_token(language: str, tmp_path: Path) -> None:
    issuer = access.issue(SECRET, None)

    token = by_python(issuer) if language == "python" else by_javascript(issuer, tmp_path)

    principal = access.verify(SECRET, token)
    assert (principal.owner, principal.rights) == (CAVEATS["owner"], {"read", "cancel"})
    assert (principal.sessions, principal.expires) == ({"s-1"}, CAVEATS["expires"])


@pytest.mark.parametrize("language", ["python", "js"])
def test_it_takes_fifteen_lines(language: str) -> None:
    assert len([line for line in code(language).splitlines() if line.strip()]) <= 15
