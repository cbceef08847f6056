"""Packages that tests need beside the product's own, installed from their locks when they are missing or others."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT, binary


def node_modules(folder: Path, *options: str) -> Path:
    """The packages of *folder*'s lock file; *options* go to npm."""
    binary("node")
    installed = folder / "node_modules"
    lock = folder / "package-lock.json"
    whole = installed / ".whole"
    with _alone(lock):
        wanted = _versions(lock.read_text("utf-8"), dev=not options)
        if wanted.items() <= _versions_in(installed).items() and (options or whole.is_file()):
            return installed
        _install([binary("npm"), "ci", "--ignore-scripts", *options], installed, cwd=folder)
        if not options:
            whole.touch()
    return installed


def environment(lock: Path) -> Path:
    """The Python of an environment with the packages of *lock* and no others."""
    made = ROOT / ".venvs" / lock.stem
    python, marker = made / "bin" / "python", made / ".installed"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    with _alone(lock):
        if marker.is_file() and marker.read_text() == digest:
            return python
        shutil.rmtree(made, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
        _install([*pip, "install", "--no-deps", "--require-hashes", "--no-compile", "-r", str(lock)], made, cwd=ROOT)
        marker.write_text(digest)
    return python


def _install(command: list[str], installed: Path, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(installed, ignore_errors=True)
        reason = f"{' '.join(command)}: {done.stderr[-2000:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Two test processes that install at once leave half of each."""
    with lock.open() as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        yield


def _versions(lock: str, *, dev: bool = True) -> dict[str, str]:
    """The versions of packages; of optional ones a few are for other systems, and without *dev* some are left out."""
    found = {name: package for name, package in json.loads(lock)["packages"].items() if name}
    wanted = {name: package for name, package in found.items() if not package.get("optional")}
    return {name: package["version"] for name, package in wanted.items() if dev or not package.get("dev")}


def _versions_in(installed: Path) -> dict[str, str]:
    try:
        return _versions((installed / ".package-lock.json").read_text("utf-8"))
    except FileNotFoundError:
        return {}


def printed(command: list[str], timeout_s: float = 150) -> Any:
    """The JSON that a program prints; its own words if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)
