"""A project of made-up packages, for tests of what the Makefile installs."""

from __future__ import annotations

import ensurepip
import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
import zipfile
from pathlib import Path

from tests.servers import ROOT


def pack(folder: Path, name: str, version: str, *needs: str) -> str:
    """Puts a wheel into the folder; returns its line for a lock."""
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"{name}/__init__.py", f"version = {version!r}\n")
        file.writestr(f"{info}/METADATA", metadata + "".join(f"Requires-Dist: {line}\n" for line in needs))
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def copy_pip(folder: Path) -> str:
    """The pip that comes with Python."""
    wheels = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.__file__).parent / "_bundled"
    wheel = next(Path(wheels).glob("pip-*.whl"))
    shutil.copy(wheel, folder)
    return f"pip=={wheel.name.split('-')[1]} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


class Project:
    """A folder with the Makefile, made-up locks and the wheels that they name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PIP_CONFIG_FILE": os.devnull}
        self.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels.as_uri(), "PIP_RETRIES": "1"}

    @classmethod
    def create(cls, folder: Path) -> Project:
        project = cls(folder)
        project.wheels.mkdir(parents=True)
        (folder / ".ci").mkdir()
        shutil.copy(ROOT / "Makefile", folder)
        shutil.copy(ROOT / ".ci/install.py", folder / ".ci")
        web = pack(project.wheels, "web", "1.0", "model[fast]>=1.0")
        model = pack(project.wheels, "model", "1.5", "web; extra == 'fast'")
        # What broke an install that resolves: a newer release of what a package asks for with an extra.
        pack(project.wheels, "model", "99.0", "web; extra == 'fast'")
        check = pack(project.wheels, "check", "3.0", "web")
        (folder / "requirements-pip.txt").write_text(copy_pip(project.wheels))
        (folder / "requirements.txt").write_text(web + model)
        (folder / "requirements-dev.txt").write_text(web + model + check)
        return project

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["make", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def packages(self) -> Path:
        return next(self.folder.glob(".venv/lib/python*/site-packages"))

    @property
    def installed(self) -> set[str]:
        names = {path.name.removesuffix(".dist-info") for path in self.packages.glob("*.dist-info")}
        return {name for name in names if not re.match("pip|setuptools", name)}

    def lock(self, *lines: str, dev: str = "") -> None:
        (self.folder / "requirements.txt").write_text("".join(lines))
        (self.folder / "requirements-dev.txt").write_text("".join(lines) + dev)
