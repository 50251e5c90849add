"""Environments for a job, made with uv, with pip, and with the distribution's own packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

from .pythons import Python, at_least, oldest, probe
from .state import home

_TAIL = 8192
_NEW = (3, 13)
_WITH_WHEELS = f">=3.11,<{_NEW[0]}.{_NEW[1]}"
"""Versions of Python for which most packages need not be compiled: Amazon Linux has no compiler."""
_LOCKED = "/lists/lock"
_LOCK_S = 300.0
_LOCK_PAUSE_S = 5.0
_PIP_CONFIGURATION = ("/etc/pip.conf", "/etc/xdg/pip/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf")


class InstallError(Exception):
    """Software could not be installed: one sentence. The log says more."""

    log = ""
    """Its end."""


class Steps:
    """Runs commands one after the other, all that they print going to one log."""

    def __init__(self, log: str) -> None:
        self._log = open(log, "ab+", buffering=0)  # noqa: SIM115 - closed by __exit__
        self._began = os.fstat(self._log.fileno()).st_size

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._log.close()

    def run(self, *command: str, cwd: str = "/") -> bool:
        """Run a command to its end; whether it succeeded."""
        self._log.write(os.fsencode("$ " + " ".join(command) + "\n"))
        environment = {**os.environ, "UV_NO_PROGRESS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        environment.pop("VIRTUAL_ENV", None)
        if not os.path.isdir(os.path.expanduser("~/.local/share/uv/python")):
            # Elsewhere at home, a job that has it installed late would seem to have left it.
            environment.setdefault("UV_PYTHON_INSTALL_DIR", os.path.join(home(), "pythons"))
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environment,
                check=False,
            )
        except OSError as error:
            self._log.write(f"{error}\n".encode())
            return False
        return done.returncode == 0

    def tail(self) -> str:
        """The end of what was printed since these steps began."""
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(self._began, end - _TAIL))
        return self._log.read(_TAIL).decode(errors="replace")


def new_environment(
    wanted: list[str],
    listed: str | None,
    versions: str,
    path: str,
    folder: str,
    steps: Steps,
    locked: Sequence[str] = (),
) -> tuple[str, str, str]:
    """A fresh environment with the wanted requirements and those listed in a file: (python, how,
    versions).

    `versions` are those of Python, such as `>=3.11,<3.15`, and in the answer the one that it came down to.
    `locked` are the versions of packages that the requirements came down to elsewhere: tried first,
    as they are.
    """
    environment = os.path.join(folder, "env")
    python = os.path.join(environment, "bin", "python")
    uv = _find_uv(path, folder) or _install_uv(path, folder, steps)
    exactly = uv and _with_uv(uv, environment, versions, wanted, listed, locked, steps)
    if exactly:
        return python, "uv", exactly
    minimum = oldest(versions)
    base = at_least(path, minimum) or _from_distribution(path, minimum, steps)
    if base is None:
        raise InstallError(
            f"the machine has no Python {minimum[0]}.{minimum[1]} or newer, and none could be installed"
        )
    shutil.rmtree(environment, ignore_errors=True)
    _pip_venv(base, environment, (), steps)
    if not steps.run(python, "-m", "pip", "install", *_arguments(wanted, listed)):
        raise InstallError(f"pip could not install {' '.join(wanted)}")
    return python, "pip", versions


def freeze(python: str, path: str, folder: str) -> list[str]:
    """`name==version` of all that an environment holds; nothing where it holds what has no version."""
    uv = _find_uv(path, folder)
    if uv is None:
        return []
    done = subprocess.run([uv, "pip", "freeze", "--python", python], capture_output=True, check=False)
    lines = done.stdout.decode(errors="replace").split("\n")
    found = [line.strip() for line in lines if line.strip()]
    return found if done.returncode == 0 and all("==" in line for line in found) else []


def install_on_top(
    found: Python, lacking: list[str], listed: str | None, path: str, folder: str, steps: Steps
) -> tuple[str, str]:
    """Add to an image's interpreter what it lacks: in place, or in an environment that sees its packages."""
    uv = _find_uv(path, folder)
    python = found.python
    if not found.writable:
        environment = os.path.join(folder, "env")
        python = os.path.join(environment, "bin", "python")
        shutil.rmtree(environment, ignore_errors=True)
        if uv is None:
            _pip_venv(found, environment, ("--system-site-packages",), steps)
        elif not steps.run(uv, "venv", "--system-site-packages", "--python", found.python, environment):
            raise InstallError("no environment could be made on top of the image's own")
        _see_packages_of(found, python)
    arguments = _arguments(lacking, listed)
    if uv is not None and _uv_install(uv, python, arguments, steps):
        return python, "uv"
    if not steps.run(python, "-m", "pip", "install", *arguments):
        raise InstallError(f"{' '.join(lacking) or 'the requirements'} could not be installed")
    return python, "pip"


def _arguments(wanted: list[str], listed: str | None) -> list[str]:
    return [*wanted, *(["-r", listed] if listed else [])]


def _see_packages_of(found: Python, python: str) -> None:
    """A virtual environment that is made from another one sees only the base interpreter's packages."""
    made = probe(python, [])
    if made is None:
        raise InstallError("the environment on top of the image's own does not work")
    with open(os.path.join(made.purelib, "_image.pth"), "w", encoding="utf-8") as file:
        file.write(found.purelib + "\n")


# --- uv -----------------------------------------------------------------------------------


def _find_uv(path: str, folder: str) -> str | None:
    places = [
        path,
        os.path.expanduser("~/.local/bin"),
        os.path.expanduser("~/.cargo/bin"),
        f"{folder}/uv/bin",
    ]
    return shutil.which("uv", path=os.pathsep.join(places))


def _install_uv(path: str, folder: str, steps: Steps) -> str | None:
    """Put uv into an environment of its own, from wherever the machine's pip gets its packages."""
    python = shutil.which("python3", path=path)
    environment = os.path.join(folder, "uv")
    if python is None:
        return None
    if not steps.run(python, "-m", "venv", environment):
        shutil.rmtree(environment, ignore_errors=True)
        install_packages(["python3-pip"], ["python3-venv"], steps)
        if not steps.run(python, "-m", "venv", environment):
            return None
    if not steps.run(f"{environment}/bin/python", "-m", "pip", "install", "uv"):
        return None
    return _find_uv(path, folder)


def _uv_install(uv: str, python: str, arguments: Sequence[str], steps: Steps) -> bool:
    """Install with what uv has on the machine, where that is enough: an image's cache saves asking the
    registry after every package. An empty one is found out in a moment."""
    install = (uv, "pip", "install", "--python", python)
    return steps.run(*install, "--offline", *arguments) or steps.run(*install, *arguments)


def _with_uv(
    uv: str,
    environment: str,
    versions: str,
    wanted: list[str],
    listed: str | None,
    locked: Sequence[str],
    steps: Steps,
) -> str | None:
    """Make an environment and install into it: its version of Python, as `versions` are written. None if
    there is no Python for it, or only pip may know where the packages are; else raises InstallError."""
    python = os.path.join(environment, "bin", "python")
    tried = False
    for of_these, whose in _pythons(versions, steps):
        if tried and of_these != _WITH_WHEELS:
            continue
        if _uv_venv(uv, environment, of_these, whose, steps):
            made = probe(python, [])
            exactly = f"=={made.version[0]}.{made.version[1]}.*" if made else of_these
            if locked and _uv_install(uv, python, ["--no-deps", *locked], steps):
                return exactly
            if _uv_install(uv, python, _arguments(wanted, listed), steps):
                return exactly
            shutil.rmtree(environment, ignore_errors=True)
            tried = True
            if made and made.version < _NEW:
                break  # it is not for want of wheels
        if tried and of_these == _WITH_WHEELS:
            break
    if tried and not _pip_is_configured():
        raise InstallError(f"uv could not install {' '.join(wanted)}")
    return None


def _pythons(versions: str, steps: Steps) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Which Python to make an environment with, best first: versions, and options for uv. The machine's
    own, even a newer one; else one that uv fetches, or has fetched; else the distribution's."""
    own = ("--python-preference", "system", "--no-python-downloads")
    fetched = ("--python-preference", "only-managed")
    any_own = ">={}.{}".format(*oldest(versions))
    yield versions, own
    if versions.startswith(">="):
        yield any_own, own
    yield versions, fetched
    yield _WITH_WHEELS, fetched
    if _install_python(steps):
        yield any_own, own


def _uv_venv(uv: str, environment: str, versions: str, whose: tuple[str, ...], steps: Steps) -> bool:
    """Make an environment, unless an earlier call has made it."""
    there = os.access(os.path.join(environment, "bin", "python"), os.X_OK)
    return there or steps.run(uv, "venv", "--python", versions, *whose, environment)


# --- pip and the distribution -------------------------------------------------------------


def _pip_is_configured() -> bool:
    variables = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONFIG_FILE")
    files = [os.path.expanduser(file) for file in _PIP_CONFIGURATION]
    return any(os.environ.get(name) for name in variables) or any(map(os.path.exists, files))


def _pip_venv(base: Python, environment: str, options: tuple[str, ...], steps: Steps) -> None:
    make = (base.python, "-m", "venv", *options, environment)
    if steps.run(*make):
        return
    shutil.rmtree(environment, ignore_errors=True)
    # Debian and Ubuntu keep what venv needs in a package of its own
    version = f"{base.version[0]}.{base.version[1]}"
    if not (install_packages([], [f"python{version}-venv"], steps) and steps.run(*make)):
        raise InstallError(f"{base.python} could not make an environment")


def _from_distribution(path: str, minimum: tuple[int, int], steps: Steps) -> Python | None:
    return at_least(path, minimum) if _install_python(steps) else None


def _install_python(steps: Steps) -> bool:
    return any(
        install_packages([f"python3.{minor}", f"python3.{minor}-pip"], [f"python3.{minor}-venv"], steps)
        for minor in (12, 11)
    )


def install_packages(rpm: list[str], deb: list[str], steps: Steps) -> bool:
    """Install packages of the distribution, by their names in either of its kinds; whether it did."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if rpm and shutil.which("dnf"):
        return steps.run(*as_root, "dnf", "-y", "install", *rpm)
    if deb and shutil.which("apt-get"):
        wait = f"DPkg::Lock::Timeout={_LOCK_S:.0f}"
        apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", wait]
        return _apt_update(apt, steps) and steps.run(*apt, "-y", "install", *deb)
    return False


def _apt_update(apt: list[str], steps: Steps) -> bool:
    """Fetch the lists of packages. Another apt that does so, as the system's own after a boot, is waited
    for here: apt's own timeout is for dpkg's lock only."""
    until = time.monotonic() + _LOCK_S
    while not steps.run(*apt, "update"):
        if _LOCKED not in steps.tail() or time.monotonic() > until:
            return False
        time.sleep(_LOCK_PAUSE_S)
    return True
