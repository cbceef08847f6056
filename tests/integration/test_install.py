"""`make` installs a lock, with made-up packages and without a network: `.ci/install.py` and the Makefile."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.made_up_project import Project, pack
from tests.servers import ROOT

RUNTIME, ALL = ".venv/.ready", ".venv/.ready-dev"


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    """Nothing is installed."""
    return Project.create(tmp_path / "the project")


@pytest.fixture(scope="module")
def installed_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """What running needs is installed, by a Python in a folder with spaces into another one."""
    folder = tmp_path_factory.mktemp("a folder with spaces")
    project = Project.create(folder / "the project")
    python = folder / "the python" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    done = project.make(RUNTIME, f"PYTHON={python}")
    assert done.returncode == 0, done
    return project


@pytest.fixture
def project(installed_once: Project, tmp_path: Path) -> Project:
    """A copy of it; making an environment takes seconds."""
    folder = tmp_path / "the project"
    shutil.copytree(installed_once.folder, folder, symlinks=True)
    return Project(folder)


@pytest.fixture
def make_python(tmp_path: Path) -> Callable[[str], Path]:
    """A Python that does something before it runs a script."""

    def make(before: str) -> Path:
        program = f"import runpy, sys; {before}; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
        python = tmp_path / "python3"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}" "$@"\n')
        python.chmod(0o755)
        return python

    return make


@pytest.fixture(scope="module")
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / ".ci/install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The only thing that was said before make itself said that it failed."""
    assert done.returncode != 0
    *said, make = done.stderr.splitlines()
    assert make.startswith("make: ***")
    assert len(said) == 1
    return said[0]


def test_running_gets_the_packages_of_its_lock_though_newer_ones_are_on_offer(installed_once: Project) -> None:
    assert installed_once.installed == {"web-1.0", "model-1.5"}


def test_what_is_installed_needs_neither_pip_nor_the_python_that_installed_it(
    project: Project, make_python: Callable[[str], Path]
) -> None:
    shutil.rmtree(project.packages / "pip")

    done = project.make(RUNTIME, f"PYTHON={make_python('sys.version_info = (3, 9, 18)')}")

    assert (done.returncode, done.stdout) == (0, "")


def test_the_other_targets_add_their_packages_to_the_same_environment(project: Project) -> None:
    before = (project.packages / "web/__init__.py").stat()

    done = project.make(ALL)

    assert done.returncode == 0, done
    assert project.installed == {"web-1.0", "model-1.5", "check-3.0"}
    assert (project.packages / "web/__init__.py").stat() == before
    assert project.make(RUNTIME, ALL).stdout == ""


def test_packages_that_cannot_be_added_leave_what_running_needs_as_it_is(project: Project) -> None:
    (project.wheels / "check-3.0-py3-none-any.whl").unlink()

    assert "check==3.0" in sentence(project.make(ALL))

    assert (project.make(RUNTIME).returncode, project.installed) == (0, {"web-1.0", "model-1.5"})


def test_a_changed_lock_is_installed_anew_without_what_the_old_one_had(project: Project) -> None:
    project.lock(pack(project.wheels, "model", "2.0"))

    done = project.make(RUNTIME)

    assert done.returncode == 0, done
    assert project.installed == {"model-2.0"}


def test_an_environment_of_an_earlier_makefile_stays_until_the_lock_is_newer(
    project: Project, install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    Path(RUNTIME).write_text("")

    assert install.is_installed(RUNTIME)

    os.utime(RUNTIME, (0, 0))
    assert not install.is_installed(RUNTIME)


def test_an_install_that_was_killed_goes_on_at_the_next_call(project: Project) -> None:
    check = project.wheels / "check-3.0-py3-none-any.whl"
    content = check.read_bytes()
    check.unlink()
    # pip stands still where it reads the wheel.
    os.mkfifo(check)
    make = project.start(ALL)
    with check.open("wb"):
        os.killpg(make.pid, signal.SIGKILL)
        make.communicate()
    check.unlink()
    check.write_bytes(content)
    # And one that was killed while it wrote a package: all that pip looks at is there.
    (project.folder / RUNTIME).unlink()
    (project.packages / "model-1.5.dist-info/INSTALLER").unlink()
    (project.packages / "model/__init__.py").unlink()

    done = project.make(ALL)

    assert done.returncode == 0, done
    assert project.installed == {"web-1.0", "model-1.5", "check-3.0"}
    assert (project.packages / "model/__init__.py").exists()


def test_two_installs_at_once_do_not_write_over_each_other(project: Project) -> None:
    folder = os.open(project.folder / ".venv", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)

    make = project.start(ALL)
    assert make.stdout is not None
    assert make.stdout.readline() == "waiting for another install into .venv\n"
    assert project.make(RUNTIME).returncode == 0
    os.close(folder)
    make.communicate()

    assert (make.returncode, "check-3.0" in project.installed) == (0, True)


@pytest.mark.parametrize("harm", ["its base is gone", "its base is another version", "pip was half installed"])
def test_an_environment_that_cannot_be_used_is_made_anew(project: Project, install: ModuleType, harm: str) -> None:
    if harm == "its base is gone":
        python = project.folder / ".venv/bin/python"
        python.unlink()
        python.symlink_to("/nowhere/python3")
    elif harm == "its base is another version":
        project.packages.parent.rename(project.packages.parents[1] / "python3.10")
    else:
        next(project.packages.glob("pip-*.dist-info/INSTALLER")).unlink()

    assert not install.has_pip(str(project.folder / ".venv"))


def test_a_python_that_is_too_old_is_told_so(bare: Project, make_python: Callable[[str], Path]) -> None:
    old = make_python("sys.version_info, sys.version = (3, 9, 18), '3.9.18 (main)'")

    said = sentence(bare.make(RUNTIME, f"PYTHON={old}"))

    assert said == "Python 3.11 or newer is needed, and this is 3.9.18: make PYTHON=python3.12"
    assert not (bare.folder / ".venv").exists()


def test_a_python_that_is_not_there_is_named(bare: Project) -> None:
    assert "there is no no/python3" in sentence(bare.make(RUNTIME, "PYTHON=no/python3"))


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_missing_module_of_python_is_named_with_its_package(
    bare: Project, make_python: Callable[[str], Path], module: str
) -> None:

    said = sentence(bare.make(RUNTIME, f"PYTHON={make_python(f'sys.modules[{module!r}] = None')}"))

    assert "python3-venv" in said


def test_an_index_that_cannot_be_reached_is_told_in_a_sentence(project: Project) -> None:
    said = sentence(project.make(ALL, PIP_NO_INDEX="0", PIP_FIND_LINKS="", PIP_INDEX_URL="http://127.0.0.1:9/simple"))

    assert said.startswith("pip reaches no package index")


def test_a_package_that_was_tampered_with_is_refused(project: Project) -> None:
    pack(project.wheels, "check", "3.0", "something-else")

    assert "DO NOT MATCH THE HASHES" in sentence(project.make(ALL))


def test_a_lock_that_lacks_a_package_is_refused_and_names_it(
    project: Project, install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.lock(pack(project.wheels, "web", "2.0", "forgotten"))
    monkeypatch.chdir(project.folder)
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.setenv(name, project.environment[name])
    # No environment made anew has other packages.
    monkeypatch.setattr(install, "make", lambda *_: None)
    folder = os.open(".venv", os.O_RDONLY)

    with pytest.raises(SystemExit, match=r"requirements.txt is not complete: .*forgotten, which is not installed"):
        install.install(RUNTIME, folder)

    os.close(folder)
    assert not install.is_installed(RUNTIME)


def test_old_pythons_can_read_what_tells_them_that_they_are_too_old(tmp_path: Path) -> None:
    found = [path for path in Path.home().glob(".pyenv/versions/*/bin/python") if path.exists()]
    olds = [path for path in found if re.search(r"/(2\.7|3\.[0-9]|3\.10)\.", str(path))]
    if not olds:
        pytest.skip("needs an older Python in pyenv")
    for old in olds:
        command = [old, ROOT / ".ci/install.py", tmp_path / RUNTIME]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith("Python 3.11 or newer is needed")
