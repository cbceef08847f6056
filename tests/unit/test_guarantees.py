"""What docs/guarantees.md says is tested is tested."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_test_that_the_guarantees_name_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/guarantees.md").read_text("utf-8")))

    sources = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    existing = {name for source in sources for name in re.findall(r"^def (test_\w+)\(", source, re.MULTILINE)}

    assert len(named) > 30
    assert named - existing == set()


def test_every_invariant_names_a_test() -> None:
    text = (ROOT / "docs/guarantees.md").read_text("utf-8")

    rows = re.findall(r"^\| (\d+) \|(.+)$", text, re.MULTILINE)

    numbers = [int(number) for number, _ in rows]
    assert numbers == sorted(set(numbers))
    assert set(numbers) >= {*range(1, 11), 12}
    assert all("`test_" in row for _, row in rows)
