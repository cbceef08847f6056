"""The lock is complete, so that pip has nothing to resolve; see `.ci/install.py`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from itertools import product

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.servers import ROOT

PYTHONS = ("3.11.0", "3.11.9", "3.12.9", "3.13.9")
SYSTEMS = {"Linux": "linux", "Darwin": "darwin"}
MACHINES = ("x86_64", "arm64")


@dataclass(frozen=True)
class Locked:
    requirement: Requirement
    hashes: frozenset[str]

    @property
    def version(self) -> str:
        return next(iter(self.requirement.specifier)).version

    def is_installed_in(self, environment: dict[str, str]) -> bool:
        return self.requirement.marker is None or self.requirement.marker.evaluate(environment)

    def serves(self, requirement: Requirement, environment: dict[str, str]) -> bool:
        return self.is_installed_in(environment) and requirement.specifier.contains(self.version)


def read(lock: str) -> dict[str, Locked]:
    packages = {}
    # A package is a line that starts with its name; its hashes and comments are indented.
    for block in re.split(r"\n(?=\w)", (ROOT / lock).read_text("utf-8")):
        requirement = Requirement(block.split("\\")[0].strip())
        packages[canonicalize_name(requirement.name)] = Locked(
            requirement, frozenset(re.findall(r"--hash=(\S+)", block))
        )
    return packages


def environments() -> list[dict[str, str]]:
    return [
        {
            "python_version": python.rpartition(".")[0],
            "python_full_version": python,
            "sys_platform": SYSTEMS[system],
            "platform_system": system,
            "platform_machine": machine,
        }
        for python, system, machine in product(PYTHONS, SYSTEMS, MACHINES)
    ]


def missing(roots: list[str], lock: dict[str, Locked], environment: dict[str, str]) -> set[str]:
    """The requirements, of the roots and of all that they bring, that the lock lacks or has another version of."""
    wrong = set()
    todo = [(Requirement(root), "the project") for root in roots]
    seen = set()
    while todo:
        requirement, wanted_by = todo.pop()
        name = canonicalize_name(requirement.name)
        locked = lock.get(name)
        if locked is None or not locked.serves(requirement, environment):
            wrong.add(f"{requirement}, for {wanted_by}")
            continue
        for extra in {"", *requirement.extras} - {extra for seen_name, extra in seen if seen_name == name}:
            seen.add((name, extra))
            for wanted in needs(name):
                if wanted.marker is None or wanted.marker.evaluate({**environment, "extra": extra}):
                    todo.append((wanted, name))
    return wrong


@cache
def needs(name: str) -> list[Requirement]:
    try:
        return [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:
        # This Python or system has no use for it, so what it would bring there can't be read.
        return []


@pytest.mark.parametrize(("lock", "extras"), [("requirements.txt", []), ("requirements-dev.txt", ["dev"])])
def test_the_lock_has_all_that_its_packages_need_on_every_python_and_system(lock: str, extras: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    roots = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]

    wrong = {line for environment in environments() for line in missing(roots, read(lock), environment)}

    assert not wrong


def test_what_running_needs_is_a_part_of_the_other_lock_with_the_same_versions_and_hashes() -> None:
    runtime, everything = read("requirements.txt"), read("requirements-dev.txt")

    for name, locked in runtime.items():
        assert (everything[name].version, everything[name].hashes) == (locked.version, locked.hashes)
        for environment in environments():
            assert everything[name].is_installed_in(environment) or not locked.is_installed_in(environment)


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt", "requirements-pip.txt"])
def test_every_package_of_a_lock_is_pinned_and_has_hashes(lock: str) -> None:
    for locked in read(lock).values():
        assert [specifier.operator for specifier in locked.requirement.specifier] == ["=="]
        assert locked.hashes
