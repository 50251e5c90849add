"""`--ec2-notify`: a small JSON document for a user's command or URL when a run has ended.

What the option says may be a secret, as the URLs of chats are: no message of ours repeats it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.formatting import usd
from snakemake_executor_ec2.plugin import snakemake_private

if TYPE_CHECKING:
    from snakemake_executor_ec2.controller.run import Run

VARIABLE = "SNAKEMAKE_EC2_NOTIFY"
"""What says the same as the option, and is on no command line."""
COMMAND_S = 30.0
"""How long a command may take."""
_TIMEOUT_S = 10.0
_PAUSES_S = (1.0, 3.0)
"""Between the tries of a URL."""
_OPTION = "--ec2-notify"
_RUNS_SCRIPTS = re.compile(r"python[0-9.]*|(ba|da|z)?sh|Rscript|perl|ruby|node|julia")
"""Other programs (ssh, docker, curl) may mean files of other computers."""
_SCRIPT = re.compile(r"[\w./~+-]{1,200}\.(bash|jl|js|pl|py|R|rb|sh)", re.ASCII)
"""The name of a script, and no code (`sh -c "cd there; ./tell.sh"`), which may hold secrets."""
_FLAGS = re.compile(r"-[BEIOPRSbdeisuvx]+")
"""Such as may stand before a script; after others, what follows may be something else."""


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """Who is told; one of both."""

    command: tuple[str, ...] = field(default=(), repr=False)
    url: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run has ended."""

    run: str | None
    """None: no job was to have a machine, or it was refused before it had a name."""
    folder: str
    """The name of its folder, without the path."""
    outcome: str
    """success, failure, refused (nothing was launched) or interrupted."""
    jobs_done: int
    """All of Snakemake's, local ones too."""
    jobs_failed: int
    cost_usd: float | None
    """Of jobs' machines, an estimate; None: not known."""

    def document(self) -> dict[str, Any]:
        """What is sent; its `text` is for people."""
        cost = "an unknown cost" if self.cost_usd is None else usd(self.cost_usd)
        jobs = f"{self.jobs_done} jobs done, {self.jobs_failed} failed"
        return {**asdict(self), "text": f"Snakemake in {self.folder}: {self.outcome}; {jobs}; {cost} on EC2"}


def receiver(text: str | None) -> Receiver | None:
    """Who an option names. Raises ConfigurationError for what could be neither command nor URL."""
    if not text or not text.strip():
        return None
    if re.match(r"\s*https?://", text, re.IGNORECASE):
        return Receiver(url=_url(text.strip()))
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigurationError(f"{_OPTION}: the command's quotes are not closed") from error
    if "://" in words[0]:
        raise ConfigurationError(f"{_OPTION}: a URL begins with https:// or http://")
    return Receiver(command=words)


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = bool(parts.hostname) and (parts.port is None or parts.port > 0) and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigurationError(f"{_OPTION}: this URL cannot be used (see docs/watching.md)")
    return text


def _check_command(command: tuple[str, ...]) -> None:
    """Raise ConfigurationError for one that could only fail at the run's end, when nobody looks."""
    if command and shutil.which(command[0]) is None:
        raise ConfigurationError(f"{_OPTION}: there is no program {_name(command)} on this computer")
    if len(command) > 1 and _RUNS_SCRIPTS.fullmatch(Path(command[0]).name):
        script = next((word for word in command[1:] if not _FLAGS.fullmatch(word)), "")
        if _SCRIPT.fullmatch(script) and not Path(script).is_file() and shutil.which(script) is None:
            raise ConfigurationError(
                f"{_OPTION}: there is no file {Path(script).name} where it is looked for"
            )


def _name(command: tuple[str, ...]) -> str:
    """The program's; not the secret of `TOKEN=… program`, which only a shell would understand."""
    name, is_set, _ = command[0].partition("=")
    return f"{name}=…" if is_set else Path(name).name


class Notices:
    """Those of one run: there is one, however often its end is told."""

    def __init__(self, option: str | None, warn: Callable[[str], None], *, here: bool = True) -> None:
        """`here`: a command has to be on this computer. Raises ConfigurationError."""
        self._receiver = receiver(option)
        self._warn = warn
        if here and self._receiver is not None:
            _check_command(self._receiver.command)
        os.environ.pop(VARIABLE, None)  # it is no job's business

    def refused(self) -> None:
        """Nothing was launched."""
        self._tell(_ended(None, "refused", 0, 0))

    def ended(self, workflow: Any, run: Run | None, *, interrupted: bool) -> None:
        """Snakemake has ended, and the run's machines too."""
        if self._receiver is None:
            return
        done, failed, well = snakemake_private.how_it_ended(workflow)
        outcome = "interrupted" if interrupted else "success" if well else "failure"
        self._tell(_ended(run, outcome, done, failed))

    def _tell(self, ended: Ended) -> None:
        found, self._receiver = self._receiver, None
        if found is not None:
            notify(found, ended, self._warn)


def _ended(run: Run | None, outcome: str, done: int, failed: int) -> Ended:
    costs = list(run.costs_usd().values()) if run is not None else []
    return Ended(
        run=run.id if run is not None else None,
        folder=Path.cwd().name,
        outcome=outcome,
        jobs_done=done,
        jobs_failed=failed,
        cost_usd=round(sum(costs), 4) if all(costs) else None,  # 0: a machine without a price
    )


def notify(
    to: Receiver, ended: Ended, warn: Callable[[str], None], pause: Callable[[float], None] = time.sleep
) -> bool:
    """Tell the receiver; whether that went well. If not, `warn` says why: it fails nothing."""
    document = json.dumps(ended.document()).encode()
    why = _run(to.command, document) if to.command else _post(to.url, document, pause)
    if why:
        warn(f"{_OPTION}: nobody was told that the run has ended, because {why}")
    return not why


def _run(command: tuple[str, ...], document: bytes) -> str:
    """Give a command the document on its standard input; what went wrong."""
    name = _name(command)
    try:
        done = subprocess.run(command, input=document, stdout=subprocess.DEVNULL, timeout=COMMAND_S)
    except subprocess.TimeoutExpired:
        return f"{name} took longer than {COMMAND_S:.0f} s"
    except OSError as error:
        return f"{name} cannot be run: {error.strerror}"
    return f"{name} ended with status {done.returncode}" if done.returncode else ""


def _post(url: str, document: bytes, pause: Callable[[float], None]) -> str:
    """POST the document; what went wrong, at last."""
    why, again = "", True
    for wait_s in (0.0, *_PAUSES_S):
        if not again:
            break
        pause(wait_s)
        why, again = _post_once(url, document)
    return why


def _post_once(url: str, document: bytes) -> tuple[str, bool]:
    """What went wrong, and whether another try may help."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class NoRedirects(HTTPRedirectHandler):
        """It would be followed as a GET, without the document."""

        def redirect_request(self, *_: Any) -> None:
            return None

    request = Request(url, data=document, headers={"Content-Type": "application/json"}, method="POST")  # noqa: S310
    try:
        with build_opener(NoRedirects).open(request, timeout=_TIMEOUT_S):
            return "", False
    except HTTPError as error:
        error.close()
        return f"the URL's server answered with status {error.code}", error.code >= 500 or error.code == 429
    except URLError as error:
        # Of a certificate, `strerror` has the server's name.
        told = [getattr(error.reason, name, None) for name in ("reason", "strerror")]
        why = next((each for each in told if each), type(error.reason).__name__)
        return f"the URL's server cannot be reached ({why})", True
    except (OSError, HTTPException) as error:
        return f"the URL's server does not answer ({type(error).__name__})", True
