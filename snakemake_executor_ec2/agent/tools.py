"""conda and apptainer, with which Snakemake deploys a rule's software: found on the machine, or installed.

conda comes as Miniforge, conda-forge's own installer, with the solver that is fast. apptainer is
the distribution's package; Amazon Linux has none, and then it is conda-forge's.
"""

from __future__ import annotations

import os
import platform
import shutil

from .installers import InstallError, Steps, install_packages

_MINIFORGE = "https://github.com/conda-forge/miniforge/releases/latest/download/Miniforge3-Linux-{}.sh"
_PROGRAMS = {"conda": ("conda",), "apptainer": ("apptainer", "singularity")}
_USUAL_PLACES = ("~/miniforge3", "~/miniconda3", "/opt/conda", "/opt/miniforge3", "/opt/miniconda3")


def provide(tool: str, path: str, folder: str, steps: Steps) -> list[str]:
    """Have `conda` or `apptainer`: what its jobs need on PATH besides what is on it.

    `path` is where the image's software is found, `folder` where the agent keeps its own.
    Raises InstallError.
    """
    install = {"conda": _install_conda, "apptainer": _install_apptainer}[tool]
    install_into = os.path.join(folder, tool)
    for attempt in ("as it is", "installed"):
        if _find(tool, os.environ.get("PATH", os.defpath)):
            return []
        places = [*(f"{os.path.expanduser(place)}/condabin" for place in _USUAL_PLACES), path]
        # Of a conda only `condabin`: its `bin` has a Python that is not the job's.
        ours = f"{install_into}/{'condabin' if tool == 'conda' else 'bin'}"
        found = _find(tool, os.pathsep.join([ours, *places]))
        if found:
            return [os.path.dirname(found)]
        if attempt == "as it is":
            install(install_into, path, folder, steps)
    raise InstallError(f"{tool} could not be installed; put it on the image, or install it in --ec2-setup")


def _find(tool: str, path: str) -> str | None:
    found = (shutil.which(program, path=path) for program in _PROGRAMS[tool])
    return next(filter(None, found), None)


def _install_conda(prefix: str, _path: str, folder: str, steps: Steps) -> None:
    installer = os.path.join(folder, "miniforge.sh")
    shutil.rmtree(prefix, ignore_errors=True)
    url = _MINIFORGE.format(platform.machine())
    if steps.run("curl", "--fail", "--silent", "--show-error", "--location", "--retry", "3",
                 "--output", installer, url):  # fmt: skip
        steps.run("bash", installer, "-b", "-p", prefix)


def _install_apptainer(prefix: str, path: str, folder: str, steps: Steps) -> None:
    if install_packages(["apptainer"], ["apptainer"], steps):
        return
    try:
        beside = provide("conda", path, folder, steps)
    except InstallError:
        return  # what was asked for is apptainer
    conda = _find("conda", os.pathsep.join([*beside, os.environ.get("PATH", os.defpath)]))
    assert conda is not None
    shutil.rmtree(prefix, ignore_errors=True)
    steps.run(conda, "create", "--yes", "--quiet", "--prefix", prefix, "--override-channels",
              "--channel", "conda-forge", "apptainer")  # fmt: skip
