"""From a rule's `threads` and `resources` to `Requirements`. Pure.

Snakemake hands over what the user wrote, with its own defaults filled in: integers where
it knows them to be integers, anything for resources that it does not know, and a
placeholder (`TBDString`) for what it could not evaluate yet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Arch, Requirements, SpotUse
from snakemake_executor_ec2.sizing import disk
from snakemake_executor_ec2.sizing.dimensions import DEFAULT_MEM_MB

DEFAULT_DISK_MB = 1000

_BYTES_PER_MIB = 2**20
_BYTES_PER_MB = 10**6

_ARCHES = {
    "x86_64": Arch.X86_64,
    "x86-64": Arch.X86_64,
    "amd64": Arch.X86_64,
    "arm64": Arch.ARM64,
    "aarch64": Arch.ARM64,
}
_SPOT = {
    **{each.value: each for each in SpotUse},
    **dict.fromkeys(("true", "yes", "1"), SpotUse.PREFER),
    **dict.fromkeys(("false", "no", "0"), SpotUse.NEVER),
}
_TBD = "<TBD>"
"""What `str(TBDString())` gives, without importing Snakemake."""


_OWN = (
    "ec2_nvme_gb", "ec2_network_gbps", "ec2_instance_type", "ec2_arch", "ec2_spot", "ec2_ami",
    "ec2_disk_mbps", "ec2_disk_iops",
)  # fmt: skip
"""Resources that only this plugin reads: a misspelt one would have no effect."""


def requirements(
    *,
    threads: int,
    resources: Mapping[str, object],
    allowed_types: Iterable[str] = (),
    default_arch: Arch = Arch.X86_64,
    default_spot: SpotUse = SpotUse.NEVER,
    default_speed: tuple[int, int] = (0, 0),
    staged_mib: int = 0,
) -> Requirements:
    """What a machine needs for a job.

    Understood resources: `mem_mb` or `mem_mib`, `disk_mb` or `disk_mib`, `runtime` (minutes),
    `gpu` or `gpus` (a count), `gpu_model`, `gpu_mem_mb` or `gpu_mem_mib` (of each GPU),
    `tasks` with `mpi` (ranks, each with the job's threads, on one machine), `ec2_nvme_gb` (local disks),
    `ec2_network_gbps`, `ec2_disk_mbps` and `ec2_disk_iops` (of the root volume), `ec2_instance_type` (a
    pattern or a comma-separated list of them), `ec2_arch`, `ec2_spot` (`never`, `prefer`, `only`, or a truth
    value for the first two), `ec2_ami`. A rule's own `ec2_instance_type` replaces the run's `allowed_types`,
    being the more specific wish. Memory, disk, runtime and GPUs of 0 ask for nothing.

    Raises ConfigurationError, which names the resource and its value.
    """
    present = _present(resources)
    model = _text(present, "gpu_model")
    gpu_mem_mb = _megabytes(present, "gpu_mem", default=0)
    gpus = _gpus(present, 1 if model or gpu_mem_mb else 0)
    mbps, iops = _speed(present, default_speed)
    return Requirements(
        threads=_threads(threads) * _ranks(present),
        mem_mb=_megabytes(present, "mem", default=DEFAULT_MEM_MB) or DEFAULT_MEM_MB,
        disk_mb=_megabytes(present, "disk", default=DEFAULT_DISK_MB),
        runtime_min=_whole(present, "runtime", minimum=0) or None,
        gpus=gpus,
        gpu_model=model if gpus else None,
        gpu_mem_mb=gpu_mem_mb if gpus else 0,
        nvme_gb=_whole(present, "ec2_nvme_gb", minimum=0) or 0,
        network_gbps=_at_least(present, "ec2_network_gbps", minimum=0) or 0.0,
        disk_mbps=mbps,
        disk_iops=iops,
        staged_mib=staged_mib,
        arch=_arch(present, default_arch),
        instance_types=_own_types(present) or allowed_patterns(allowed_types),
        spot=_spot(present, default_spot),
        ami=_text(present, "ec2_ami"),
    )


def _own_types(present: Mapping[str, object]) -> tuple[str, ...]:
    return _patterns("ec2_instance_type", _text(present, "ec2_instance_type") or "")


def _gpus(present: Mapping[str, object], default: int) -> int:
    given = (_whole(present, name, minimum=0) for name in ("gpu", "gpus"))
    return next((number for number in given if number is not None), default)


def _speed(present: Mapping[str, object], default: tuple[int, int]) -> tuple[int, int]:
    """Throughput (MiB/s) and IOPS of the root volume, 0 for what nobody asks for. A rule's own throughput
    may need more IOPS than the run's options ask for, and then gets them."""
    own_mbps, own_iops = (_whole(present, f"ec2_disk_{what}", minimum=0) for what in ("mbps", "iops"))
    mbps = default[0] if own_mbps is None else own_mbps
    iops = default[1] if own_iops is None else own_iops
    if own_iops is None and iops and mbps:
        iops = max(iops, mbps * disk.IOPS_PER_MBPS)
    disk.check_speed(mbps, iops)
    return mbps, iops


def _present(resources: Mapping[str, object]) -> dict[str, object]:
    """Those that have a value. Names that begin like our own resources and are none are refused; all others
    may be meant for something else."""
    present = {name: value for name, value in resources.items() if not _absent(value)}
    for name in present:
        if name.startswith("ec2_") and name not in _OWN:
            close = get_close_matches(name, _OWN, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(_OWN)}"
            raise ConfigurationError(f"resource {name} is not known{hint}")
    return present


def allowed_patterns(values: Iterable[str]) -> tuple[str, ...]:
    """The run's patterns (`--ec2-instance-types`), each of which may be a comma-separated list."""
    return tuple(
        dict.fromkeys(
            pattern for value in values for pattern in _patterns("the allowed instance types", value)
        )
    )


def _patterns(name: str, value: str) -> tuple[str, ...]:
    """Split a list of patterns at commas and blanks; no blank is ever part of a type's name."""
    patterns = tuple(dict.fromkeys(value.replace(",", " ").lower().split()))
    if value.strip() and not patterns:
        raise ConfigurationError(f"{name}={value!r} names no instance type; write for example m7i.large")
    return patterns


def _absent(value: object) -> bool:
    return value is None or value == "" or str(value) == _TBD


def _threads(threads: int) -> int:
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 0:
        raise ConfigurationError(f"threads={threads!r} is not a number of threads; it must be 1 or more")
    return max(1, threads)


def _ranks(present: Mapping[str, object]) -> int:
    """How many processes of the job's threads MPI starts. Snakemake's resources for it are `mpi`, the
    program that starts them, and `tasks`; without `mpi`, `tasks` is the workflow's own."""
    if "mpi" not in present:
        return 1
    if (_whole(present, "nodes", minimum=0) or 1) > 1:
        raise ConfigurationError(
            f"resource nodes={present['nodes']!r}: a job runs on one machine; leave out nodes, and set "
            "tasks to the number of ranks on that machine"
        )
    return _whole(present, "tasks", minimum=0) or 1


def _megabytes(present: Mapping[str, object], what: str, *, default: int) -> int:
    """`<what>_mb`, else `<what>_mib` converted and rounded up, else the default."""
    megabytes = _whole(present, f"{what}_mb", minimum=0)
    if megabytes is not None:
        return megabytes
    mebibytes = _whole(present, f"{what}_mib", minimum=0)
    if mebibytes is None:
        return default
    return -(-mebibytes * _BYTES_PER_MIB // _BYTES_PER_MB)


def _whole(present: Mapping[str, object], name: str, *, minimum: int) -> int | None:
    """A resource as an integer; fractions of a megabyte or a minute are rounded up."""
    number = _at_least(present, name, minimum=minimum)
    return None if number is None else math.ceil(number)


def _at_least(present: Mapping[str, object], name: str, *, minimum: int) -> int | float | None:
    value = present.get(name)
    if value is None:
        return None
    number = _number(value)
    if number is None:
        raise ConfigurationError(f"resource {name}={value!r} is not a number")
    if number < minimum:
        raise ConfigurationError(f"resource {name}={value!r} is too small; it must be {minimum} or more")
    return number


def _number(value: object) -> int | float | None:
    """The value as a finite number, or None if it is none. True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, int):
        return value
    try:
        # int() first: a float would round large whole numbers.
        return int(value) if isinstance(value, str) else _finite(value)
    except ValueError:
        pass
    try:
        return _finite(float(value))
    except ValueError:
        return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(present: Mapping[str, object], name: str) -> str | None:
    value = present.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConfigurationError(f"resource {name}={value!r} is not text")
    return value.strip() or None


def _arch(present: Mapping[str, object], default: Arch) -> Arch:
    value = _text(present, "ec2_arch")
    if value is None:
        return default
    arch = _ARCHES.get(value.lower())
    if arch is None:
        raise ConfigurationError(f"resource ec2_arch={value!r} is not known; it must be x86_64 or arm64")
    return arch


def _spot(present: Mapping[str, object], default: SpotUse) -> SpotUse:
    value = present.get("ec2_spot")
    if value is None:
        return default
    use = _SPOT.get(str(value).strip().lower())
    if use is None:
        raise ConfigurationError(f"resource ec2_spot={value!r} is not known; it is never, prefer or only")
    return use
