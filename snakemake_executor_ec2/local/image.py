"""The machine image: what every host finds in its root besides this computer's system directories.

Built once for a cloud, as a folder that the sandbox lays over `/etc` and `/usr` of each host.
"""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .machine.sandbox import USER_ID

USER = "ec2-user"
USER_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_ROOT_PROGRAMS = "/etc/ec2-root"
ROOT_PATH = f"{_ROOT_PROGRAMS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ROOT_ONLY = "/etc/ec2-root-only"
"""Lists the files that root alone may read: see `machine/sudo.sh`."""
SHARED_CACHE = "/var/cache/snakemake-ec2"

_CLOCK = "/usr/local/lib/clock"
_UV = "/usr/local/bin/uv"

SYSTEM_DIRECTORIES = [
    path
    for path in (
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/etc",
        "/opt",
        "/nix",
        "/gnu",
    )
    if os.path.lexists(path)
]
_MACHINE = Path(__file__).parent / "machine"
_SHIM_NAMES = ("systemctl", "systemd-run", "shutdown", "poweroff", "halt", "reboot", "cloud-init")
_SECRET = ("shadow", "shadow-", "gshadow", "gshadow-")
_SETTING_PREFIXES = (
    "PIP_",
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX",
    "UV_FIND_LINKS",
    "UV_NATIVE_TLS",
)
_SETTING_NAMES = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "UV_SYSTEM_CERTS",
    "UV_INSECURE_HOST", "UV_INDEX_STRATEGY", "UV_PYTHON_INSTALL_MIRROR", "UV_HTTP_TIMEOUT",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Image:
    """What hosts are made from: a folder, variables for every command, and paths bound in from outside."""

    directory: Path
    variables: dict[str, str]
    read_only: list[tuple[str, str]] = field(default_factory=list)
    read_write: list[tuple[str, str]] = field(default_factory=list)
    masked: list[str] = field(default_factory=list)


def build(directory: Path, cache: Path, *, isolated: bool, software_s: float = 0.0) -> Image:
    """Write the image into `directory`. `cache` outlives the cloud and is shared by all hosts.

    `software_s`: by how much a host's first installation of packages is longer than here, where they are
    in that cache; only isolated hosts can be made to wait.
    """
    for name in ("uv", "pycache"):
        (cache / name).mkdir(parents=True, exist_ok=True)
    shared = SHARED_CACHE if isolated else str(cache)
    variables = {
        "UV_CACHE_DIR": f"{shared}/uv",
        # The cache is another mount than the host's root, where hard links can't reach. Symbolic ones are
        # quicker than copies and keep modification times: bytecode that was compiled once stays good.
        "UV_LINK_MODE": "symlink",
        "PYTHONPYCACHEPREFIX": f"{shared}/pycache",
        **_registry_settings(os.environ),
    }
    wheels = f"{shared}/wheels"
    variables["UV_FIND_LINKS"] = ",".join(filter(None, [variables.get("UV_FIND_LINKS"), wheels]))
    write_etc(directory / "etc", variables)
    if not isolated:
        return Image(directory=directory, variables=variables)
    shutil.copytree(_MACHINE / "clock", directory / _CLOCK.lstrip("/"), dirs_exist_ok=True)
    _write_account_files(directory / "etc")
    write_programs(directory / "usr/local/bin", directory / f".{_ROOT_PROGRAMS}", host_dir="")
    uv = "/usr/local/lib/uv" if software_s else _UV
    if software_s:
        script = (_MACHINE / "slow-uv.sh").read_text()
        _write_program(
            directory / _UV.lstrip("/"), script.replace("@SECONDS@", str(software_s)).replace("@UV@", uv)
        )
    read_only = _python(directory) + _programs_from_wheels(uv) + _files_that_settings_name(variables)
    return Image(
        directory=directory,
        variables=variables,
        read_only=read_only,
        read_write=[(str(cache), SHARED_CACHE)],
        masked=_working_directories_in_system_directories(),
    )


def wrong_clock(ahead_s: float) -> dict[str, str]:
    """Variables for an isolated host whose Python programs see a clock that is ahead by so much."""
    return {"PYTHONPATH": _CLOCK, "HOST_CLOCK_AHEAD_S": repr(ahead_s)}


def write_etc(directory: Path, variables: dict[str, str]) -> None:
    """/etc/environment: variables for every command, however it is started."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in variables.items()]
    (directory / "environment").write_text("".join(lines))


def write_programs(programs: Path, root_programs: Path, *, host_dir: str) -> None:
    """The programs that stand in for a real system's. `host_dir`: for a host that has no root of its own."""
    programs.mkdir(parents=True, exist_ok=True)
    root_programs.mkdir(parents=True, exist_ok=True)
    body = (_MACHINE / "shims.py").read_text().replace('HOST_DIR = ""', f"HOST_DIR = {host_dir!r}", 1)
    for name in _SHIM_NAMES:
        _write_program(programs / name, f"#!{_python_program()} -IS\n{body}")
    root_path = ROOT_PATH if not host_dir else f"{root_programs}:{programs}:{ROOT_PATH}"
    sudo = (_MACHINE / "sudo.sh").read_text().replace("@ROOT_PATH@", root_path)
    _write_program(programs / "sudo", sudo.replace("@HOST_DIR@", host_dir))
    for name in ("chown", "chgrp", "install"):
        _write_program(root_programs / name, (_MACHINE / "ownership.sh").read_text())


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _write_account_files(etc: Path) -> None:
    """/etc as it differs from this computer's: one account more, no secret, no host key of this computer."""
    home = f"/home/{USER}"
    (etc / "passwd").write_text(
        f"{USER}:x:{USER_ID}:{USER_ID}:EC2 Default User:{home}:/bin/bash\n"
        + _without(USER, Path("/etc/passwd"))
    )
    (etc / "group").write_text(f"{USER}:x:{USER_ID}:\n" + _without(USER, Path("/etc/group")))
    for name in _SECRET:
        (etc / name).touch(mode=0o600)
    for name in ("ssh", "ssl/private", "sudoers.d"):
        (etc / name).mkdir(parents=True, exist_ok=True)
        _hide_what_is_below(etc / name)
    # Of a user's configuration of uv only registries matter on a machine, and there they hold for everybody.
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "uv/uv.toml"
    if configuration.is_file():
        (etc / "uv").mkdir(exist_ok=True)
        (etc / "uv/uv.toml").write_bytes(configuration.read_bytes())
    # A link into /run, which the host has its own of, on many computers.
    resolver = Path("/etc/resolv.conf")
    if resolver.is_file():
        (etc / "resolv.conf").write_bytes(resolver.read_bytes())


def _without(name: str, file: Path) -> str:
    """The lines of an account file that say nothing about this name or the id that it gets."""
    lines = file.read_text(errors="surrogateescape").splitlines(keepends=True)
    kept = [line for line in lines if [*line.split(":"), "", "", ""][2] != str(USER_ID)]
    return "".join(line for line in kept if not line.startswith(f"{name}:"))


def _hide_what_is_below(directory: Path) -> None:
    """Mark a folder of an overlay's layer as replacing, not completing, the one below."""
    try:
        os.setxattr(directory, "user.overlay.opaque", b"y")
    except (AttributeError, OSError):
        # No such attributes, no overlay: then the sandbox copies /etc, and leaves these folders out itself.
        return


def _python_program() -> str:
    """The interpreter itself, never a virtual environment's link to it: hosts have no such environment."""
    return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")


def _python(directory: Path) -> list[tuple[str, str]]:
    """Give hosts the Python that runs the cloud: what to bind, if it isn't among the system's programs."""
    program = Path(_python_program())
    for name in (program.name, "python3"):
        if not any((Path(folder) / name).exists() for folder in USER_PATH.split(":")):
            (directory / "usr/local/bin" / name).symlink_to(program)
    prefix = Path(sys.base_prefix).resolve()
    if is_visible(prefix):
        return []
    bindings = [(str(prefix), path) for path in dict.fromkeys((str(prefix), sys.base_prefix))]
    # With conda the interpreter's own folder is also where the user's packages are; a fresh machine has none.
    empty = directory / "empty"
    empty.mkdir(exist_ok=True)
    packages = Path("lib") / program.name / "site-packages"
    return [*bindings, *((str(empty), f"{path}/{packages}") for _, path in bindings)]


def _programs_from_wheels(uv: str) -> list[tuple[str, str]]:
    """`uv`, from the wheel that the `local` extra brings."""
    try:
        from uv import find_uv_bin

        return [(find_uv_bin(), uv)]
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
        return [(found, uv)] if found else []


def is_visible(path: Path) -> bool:
    """Whether hosts see this path of the computer without it being bound in."""
    return any(path.is_relative_to(directory) for directory in SYSTEM_DIRECTORIES)


def _registry_settings(environment: Iterable[str]) -> dict[str, str]:
    """How this computer reaches package registries: hosts have its network, and need its settings."""
    found = {
        name: os.environ[name]
        for name in environment
        if name in _SETTING_NAMES or name.startswith(_SETTING_PREFIXES)
    }
    # uv reads none of pip's configuration files; what they say about registries is said again in its words.
    configured = _pip_configuration()
    for option, name in (
        ("index-url", "UV_DEFAULT_INDEX"),
        ("extra-index-url", "UV_INDEX"),
        ("find-links", "UV_FIND_LINKS"),
        ("cert", "SSL_CERT_FILE"),
    ):
        value = found.get(f"PIP_{option.upper().replace('-', '_')}") or configured.get(option)
        if value and name not in found:
            separator = "," if option == "find-links" else " "
            found[name] = separator.join(value.split())
    if "UV_INDEX" in found:
        # pip takes the best version of all its indexes, uv by itself only those of the first one.
        found.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return found


def _pip_configuration() -> dict[str, str]:
    home = Path.home()
    parser = configparser.RawConfigParser()
    parser.read(
        [
            "/etc/pip.conf",
            home / ".pip/pip.conf",
            home / ".config/pip/pip.conf",
            home / "Library/Application Support/pip/pip.conf",
            os.environ.get("PIP_CONFIG_FILE", os.devnull),
        ]
    )
    return dict(parser["global"]) if parser.has_section("global") else {}


def _files_that_settings_name(variables: dict[str, str]) -> list[tuple[str, str]]:
    """Certificates and package folders that the settings point at and hosts would not see."""
    words = [
        word.removeprefix("file://")
        for name, value in variables.items()
        if name not in ("UV_CACHE_DIR", "PYTHONPYCACHEPREFIX")
        for word in value.replace(",", " ").split()
    ]
    paths = {word for word in words if word.startswith("/") and not is_visible(Path(word))}
    return [(path, path) for path in sorted(paths) if Path(path).exists()]


def _working_directories_in_system_directories() -> list[str]:
    """A home or working directory below /opt or /usr: as absent as any other."""
    candidates = {Path.cwd(), Path.home()}
    prefix = Path(sys.base_prefix).resolve()
    return [
        str(path)
        for path in candidates
        if is_visible(path) and len(path.parts) > 3 and not prefix.is_relative_to(path)
    ]
