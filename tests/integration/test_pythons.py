"""`make pythons` names a Python that is missing: `.ci/pythons`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import ROOT


@pytest.fixture
def pythons(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the script where there are these commands only."""

    def run(*commands: str, tests: str = "exit 0", **environment: str) -> subprocess.CompletedProcess[str]:
        for name in ("bash", "dirname"):
            (tmp_path / name).symlink_to(str(shutil.which(name)))
        for name, program in {**dict.fromkeys(commands, "exit 0"), "make": f'echo "$@"; {tests}'}.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
            (tmp_path / name).chmod(0o755)
        environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), **environment}
        script = [tmp_path / "bash", ROOT / ".ci/pythons"]
        return subprocess.run(script, env=environment, capture_output=True, text=True, timeout=30, check=False)

    return run


def test_each_python_has_an_environment_of_its_own(pythons: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = pythons("python3.12", "python3.13", CI="true")

    assert (done.returncode, done.stderr) == (0, "")
    assert "PYTHON=python3.12 VENV=.venvs/3.12" in done.stdout
    assert "PYTHON=python3.13 VENV=.venvs/3.13" in done.stdout


@pytest.mark.parametrize(("environment", "code"), [({}, 0), ({"CI": "true"}, 1)])
def test_a_missing_python_is_named_and_fails_where_all_are_expected(
    pythons: Callable[..., subprocess.CompletedProcess[str]], environment: dict[str, str], code: int
) -> None:
    done = pythons("python3.13", **environment)

    assert done.returncode == code
    assert done.stderr == "not tested, because it is neither on PATH nor in pyenv: Python 3.12\n"


def test_it_fails_where_none_is_found(pythons: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = pythons()

    assert (done.returncode, done.stderr[-17:]) == (1, "Python 3.12 3.13\n")


def test_a_failure_on_one_python_does_not_hide_the_other(
    pythons: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = pythons("python3.12", "python3.13", tests="exit 1")

    assert done.returncode == 1
    assert done.stderr == "failed: Python 3.12 3.13\n"
