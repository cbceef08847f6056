"""What Prometheus is shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram

from app.observability import exposition, metrics
from app.sessions import census
from app.sessions.census import Census
from tests.counted import families
from tests.servers import ROOT, free_port

INSTRUMENTS = [each for each in vars(metrics).values() if isinstance(each, Counter | Gauge | Histogram)]


def in_a_process(folder: Path, code: str) -> None:
    """Run *code* in a process that counts in *folder* and ends."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    source = f"from app.observability import exposition, metrics\nfolder = {str(folder)!r}\n{code}"
    subprocess.run([sys.executable, "-c", source], env=environment, cwd=ROOT, check=True, timeout=60)


def test_a_label_has_few_values_whatever_comes() -> None:
    names = metrics.Names(also=2)
    names.know(["demo"])

    labels = [names.label(name) for name in ("one", "demo", "two", "three", "one", "", "a" * 65, "a b", "\n")]

    assert labels == ["one", "demo", "two", "other", "one", "other", "other", "other", "other"]


def test_a_model_that_is_not_configured_is_other() -> None:
    names = metrics.Names()
    names.know({"openai:gpt-5-mini"})

    assert [names.label(name) for name in ("openai:gpt-5-mini", "openai:made-up")] == ["openai:gpt-5-mini", "other"]


def test_names_follow_the_conventions_of_prometheus() -> None:
    for instrument in INSTRUMENTS:
        [family] = instrument.describe()
        assert re.fullmatch(r"backchat_[a-z]+(_[a-z]+)*", family.name)
        assert family.documentation.endswith(".")
        if isinstance(instrument, Histogram) and "events" not in family.name:
            assert family.name.endswith("_seconds")
        if isinstance(instrument, Gauge):
            assert not family.name.endswith("_total")


def test_what_has_ended_counts_on_and_leaves_one_file_of_each_kind(tmp_path: Path) -> None:
    for n in (1, 2, 3):
        in_a_process(
            tmp_path,
            f"metrics.SESSIONS_STARTED.inc({n}); metrics.HELD_REQUESTS.inc()\n"
            "metrics.CLAIM_SECONDS.observe(0.2); metrics.CLAIMS.labels('first').inc()",
        )

    exposition.fold_ended(str(tmp_path))
    shown = families(exposition.render(str(tmp_path)))

    assert shown["backchat_sessions_started"] == {("backchat_sessions_started_total",): 6}
    assert shown["backchat_claims"] == {("backchat_claims_total", "first"): 3}
    assert shown["backchat_session_claim_seconds"]["backchat_session_claim_seconds_count",] == 3
    assert "backchat_held_requests" not in shown
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["counter_0.db", "histogram_0.db"]


def test_a_process_that_lives_keeps_its_files(tmp_path: Path) -> None:
    in_a_process(
        tmp_path,
        "metrics.HELD_REQUESTS.inc(7); exposition.fold_ended(folder)\n"
        "assert b'backchat_held_requests 7.0' in exposition.render(folder)",
    )


@pytest.fixture
def port() -> Iterator[int]:
    """One on which the metrics are served."""
    port = free_port()
    server = exposition.serve("127.0.0.1", port, "")
    assert server is not None
    yield port
    server.shutdown()
    server.server_close()


def test_a_worker_serves_its_metrics_on_a_port_of_its_own(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        shown = families(response.read())

    assert "backchat_flush_seconds" in shown


def test_a_port_that_is_taken_is_told_and_nothing_fails(port: int, caplog: pytest.LogCaptureFixture) -> None:
    assert exposition.serve("127.0.0.1", port, "") is None

    # Applications of other tests in this process may have something to say, too.
    told = [record.getMessage() for record in caplog.records if record.name == exposition.__name__]
    assert told == ["no metrics are served"]


def test_every_instrument_is_explained_and_every_explained_one_exists() -> None:
    text = (ROOT / "docs" / "operate.md").read_text("utf-8").partition("## Metrics")[2]
    table = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    explained = {re.sub(r"{.*}|_total", "", name) for cell in table for name in re.findall(r"`([^`]+)`", cell)}
    census_now = Census(running=0, queued=0, waiting=0, orphaned=0, oldest_queued_s=0, sweep_age_s=0)
    shown = [family.name for instrument in INSTRUMENTS for family in instrument.describe()]
    shown += [family.name for family in census.families_of(census_now)]

    assert explained == {name.removeprefix("backchat_") for name in shown}
