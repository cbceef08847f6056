"""The alert rules and the dashboard of `deploy/` name what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from app.observability import metrics
from app.sessions import census
from app.sessions.census import Census
from tests.servers import ROOT

RULES = ROOT / "deploy" / "prometheus-rules.yml"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text("utf-8"))
ALERTS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text("utf-8"))["groups"][0]["rules"]
_WORDS = {"le", "instance", "job"}


def series() -> dict[str, set[str]]:
    """Names that can be asked for, and the labels of each."""
    found: dict[str, set[str]] = {}
    for instrument in vars(metrics).values():
        if isinstance(instrument, Counter | Gauge | Histogram):
            [family] = instrument.describe()
            endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            for ending in endings:
                found[family.name + ending] = set(instrument._labelnames)
    now = Census(running=0, queued=0, waiting=0, orphaned=0, oldest_queued_s=0, sweep_age_s=0)
    for family in census.families_of(now):
        found[family.name] = {label for sample in family.samples for label in sample.labels}
    return found


def expressions() -> Iterator[str]:
    yield from (alert["expr"] for alert in ALERTS)
    yield from (target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_an_expression_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    known = series()
    names = set(re.findall(r"\bbackchat_\w+", expression))

    assert names
    assert names <= known.keys()
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", group)}
    matched = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
    assert grouped | matched <= _WORDS | set().union(*(known[name] for name in names))


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for alert in ALERTS:
        assert re.fullmatch(r"Backchat[A-Za-z]+", alert["alert"])
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"].keys() == {"summary", "action"}
    assert len({alert["alert"] for alert in ALERTS}) == len(ALERTS)


def test_promtool_finds_no_fault_in_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        # The package of Prometheus is larger than all that the tests need besides.
        pytest.skip("promtool is not installed")
    checked = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
