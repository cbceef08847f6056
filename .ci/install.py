"""Installs a lock into an environment: `install.py .venv/.ready` what running needs, `.venv/.ready-dev` all of it.

Each of these two files says which lock is there as a whole. Nothing is resolved, so no new release of a dependency can
break an install: the lock names every package, and `pip check` says whether that is true. What an interrupted install
left is completed. An environment of another lock, or of a Python that is gone, is made anew.

Python 2.7 can read this file, and so be told that it is too old.
"""

import glob
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig

LOCKS = {".ready": "requirements.txt", ".ready-dev": "requirements-dev.txt"}
#: pip itself: the one of Python 3.11 takes three times as long.
PIP_LOCK = "requirements-pip.txt"
#: pip's words when no index answers; one that answers and lacks a package is told in pip's words.
UNREACHABLE = ("Retrying (", "Max retries exceeded", "ConnectionError", "Timeout", "timed out", "HTTP error 5")


def main(marker):
    venv = os.path.dirname(marker)
    if is_installed(marker):
        return
    if sys.version_info < (3, 11):
        version = sys.version.split()[0]
        sys.exit("Python 3.11 or newer is needed, and this is {}: make PYTHON=python3.12".format(version))
    os.makedirs(venv, exist_ok=True)
    folder = lock(venv)
    # Another call may have installed it while this one waited.
    if not is_installed(marker):
        install(marker, folder)


def is_installed(marker):
    return is_of_its_lock(marker) and site_packages(os.path.dirname(marker)) is not None


def is_of_its_lock(marker):
    lock_file = LOCKS[os.path.basename(marker)]
    try:
        with open(marker) as file:
            digest = file.read()
    except (IOError, OSError):
        return False
    # Earlier versions left it empty.
    return digest == digest_of(lock_file) or (not digest and os.path.getmtime(marker) >= os.path.getmtime(lock_file))


def digest_of(lock_file):
    with open(lock_file, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def site_packages(venv):
    """Where the packages of the environment are; None when its Python is gone, or is another version than it was."""
    command = [python_of(venv), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    try:
        with open(os.devnull, "w") as null:
            path = subprocess.check_output(command, stderr=null, universal_newlines=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return path if os.path.isdir(path) else None


def python_of(venv):
    return os.path.join(venv, "bin", "python")


def lock(venv):
    """Waits until nobody else installs into the environment. pip is given it too: it may outlive this process."""
    import fcntl

    folder = os.open(venv, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another install into {}".format(venv))
        fcntl.flock(folder, fcntl.LOCK_EX)
    return folder


def install(marker, folder):
    venv = os.path.dirname(marker)
    markers = [os.path.join(venv, name) for name in LOCKS]
    outdated = any(os.path.exists(other) and not is_of_its_lock(other) for other in markers)
    anew = outdated or not has_pip(venv)
    lock_file = LOCKS[os.path.basename(marker)]
    say("installing {} into {}, once; this takes up to a minute".format(lock_file, venv))
    if not anew:
        remove_halves(site_packages(venv))
        problems = fill(venv, lock_file, folder)
        # Of a lock before this one, or of somebody's own.
        anew = bool(problems)
    if anew:
        make(venv, markers, folder)
        problems = fill(venv, lock_file, folder)
    if problems:
        sys.exit("{} is not complete: {}".format(lock_file, problems))
    # The runtime's packages are a part of the others.
    for name in [".ready"] if lock_file == LOCKS[".ready"] else LOCKS:
        with open(os.path.join(venv, name), "w") as file:
            file.write(digest_of(LOCKS[name]))


def has_pip(venv):
    packages = site_packages(venv)
    return packages is not None and bool(glob.glob(os.path.join(glob.escape(packages), "pip-*.dist-info", "INSTALLER")))


def remove_halves(packages):
    """What pip was killed at looks installed to it; the file INSTALLER comes after all of a package's own files."""
    for folder in glob.glob(os.path.join(glob.escape(packages), "*.dist-info")):
        if not os.path.exists(os.path.join(folder, "INSTALLER")):
            shutil.rmtree(folder)


def make(venv, markers, folder):
    """An empty environment with the locked pip, which the wheel of pip that comes with Python installs."""
    try:
        import ensurepip
        import venv as _  # noqa: F401
    except ImportError:
        python = sys.executable
        sys.exit("{} has no module venv or ensurepip: Debian and Ubuntu have it in python3-venv".format(python))
    for marker in markers:
        if os.path.exists(marker):
            os.remove(marker)
    wheels = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
    # Debian has them elsewhere.
    found = glob.glob(os.path.join(glob.escape(sysconfig.get_config_var("WHEEL_PKG_DIR") or wheels), "pip-*.whl"))
    # venv would unpack and compile pip and setuptools first, which takes seconds.
    arguments = ["--clear", "--without-pip"] if found else ["--clear"]
    code, output = run([sys.executable, "-m", "venv"] + arguments + [venv], folder)
    if code:
        sys.exit("no environment could be made in {}: {}".format(venv, last_line(output)))
    pip_install(venv, PIP_LOCK, folder, [os.path.join(found[0], "pip")] if found else ["-m", "pip"])
    if not has_pip(venv):
        sys.exit("{} makes environments without pip, which is needed to install packages".format(sys.executable))


def fill(venv, lock_file, folder):
    """Installs what the lock names; returns what `pip check` finds missing or at odds, in one line."""
    pip_install(venv, lock_file, folder)
    # -I: neither PYTHONPATH nor a file in this folder stands for a package.
    code, output = run([python_of(venv), "-I", "-m", "pip", "--disable-pip-version-check", "check"], folder)
    return "; ".join(output.strip().split("\n")) if code else ""


def pip_install(venv, lock_file, folder, pip=("-m", "pip")):
    command = [python_of(venv), "-I"] + list(pip) + ["install", "--disable-pip-version-check", "--quiet", "--no-input"]
    code, output = run(command + ["--no-compile", "--no-deps", "--require-hashes", "-r", lock_file], folder)
    if code:
        explain(output, lock_file, venv)


def explain(output, lock_file, venv):
    log = os.path.join(venv, "install.log")
    with open(log, "w") as file:
        file.write(output)
    if any(words in output for words in UNREACHABLE):
        sys.exit("pip reaches no package index, so look at the network and at pip's proxy and index; more is in " + log)
    errors = [line for line in output.split("\n") if line.startswith("ERROR: ")]
    reason = errors[0][len("ERROR: ") :] if errors else last_line(output)
    sys.exit("pip could not install {}: {} (more is in {})".format(lock_file, reason, log))


def run(command, folder):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, pass_fds=[folder])
    return done.returncode, done.stdout


def last_line(output):
    return output.strip().split("\n")[-1]


def say(line):
    print(line)
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
    except (IOError, OSError) as error:
        sys.exit("no environment could be made: {}".format(error))
