"""What `compose.yaml` and the units of `deploy/` start is what the Procfile names, and is given time to stop."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.servers import ROOT
from worker.process.worker_process import HAND_BACK_S
from worker.rq.worker import CANCEL_GRACE_S

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text("utf-8").splitlines())
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)


def unit(name: str) -> str:
    return (ROOT / "deploy" / f"{name}.service").read_text("utf-8")


def make_secrets(folder: Path) -> dict[str, str]:
    subprocess.run([ROOT / "deploy" / "make-secrets", folder], check=True)
    return {file.name: file.read_text("utf-8").strip() for file in folder.iterdir()}


@pytest.mark.parametrize("process", ["release", "web", "worker"])
def test_compose_runs_what_the_procfile_names(process: str) -> None:
    assert shlex.join(SERVICES[process]["command"]) == PROCFILE[process]


@pytest.mark.parametrize(("name", "process"), [("backchat-web", "web"), ("backchat-worker@", "worker")])
def test_a_unit_migrates_and_runs_what_the_procfile_names(name: str, process: str) -> None:
    commands = re.findall(r"^ExecStart(?:Pre)?=/opt/backchat/.venv/bin/(.*)$", unit(name), re.MULTILINE)

    assert commands == [PROCFILE["release"], PROCFILE[process]]


def test_a_worker_is_given_the_time_that_it_takes_to_stop() -> None:
    grace_s = float(SERVICES["worker"]["environment"]["STOP_GRACE_S"])
    takes_s = grace_s + HAND_BACK_S + CANCEL_GRACE_S
    [unit_s] = re.findall(r"^TimeoutStopSec=(\d+)$", unit("backchat-worker@"), re.MULTILINE)

    assert grace_s == Settings().stop_grace_s
    assert float(SERVICES["worker"]["stop_grace_period"].removesuffix("s")) >= takes_s
    assert float(unit_s) >= takes_s


@pytest.mark.parametrize("name", OURS)
def test_everything_of_ours_runs_on_a_read_only_root(name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    assert SERVICES[name]["tmpfs"] == ["/tmp"]


def test_the_secrets_are_settings_that_fit_together(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)

    settings = Settings.from_environment({"SECRETS_DIR": str(tmp_path)})

    assert settings.database_url == f"mysql://backchat:{made['database_password']}@database/backchat"
    assert settings.redis_url == f"redis://:{made['redis_password']}@redis/0"
    assert made["redis.conf"] == f"requirepass {made['redis_password']}"
    assert len({made["chat_secret"], made["database_password"], made["redis_password"]}) == 3
    assert re.fullmatch("[0-9a-f]{48}", settings.chat_secret)


def test_secrets_that_are_there_are_kept_and_missing_ones_are_made(tmp_path: Path) -> None:
    first = make_secrets(tmp_path)
    (tmp_path / "redis_password").unlink()

    second = make_secrets(tmp_path)

    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"redis_password", "redis_url", "redis.conf"}
