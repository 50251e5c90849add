"""What passes between modules: frozen values, with their units in their names.

In the order of a job's way (see `controller/job.py`):
`JobPlan` asks for `Requirements`; the catalogue answers with ranked `Offer`s of
`InstanceType`s; a `LaunchSpec` becomes a `Machine`, whose `MachineStatus` EC2 reports;
the agent on it reports `JobEvent`s; all of it ends in a `JobOutcome` with its `Phase`s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakemake_executor_ec2.staging.view import View


class Arch(StrEnum):
    """A processor architecture, in EC2's words."""

    X86_64 = "x86_64"
    ARM64 = "arm64"


class Market(StrEnum):
    """How a machine is paid for."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"


class SpotUse(StrEnum):
    """Whether a job may use spot machines."""

    NEVER = "never"
    PREFER = "prefer"
    """Where a job's expected cost is lower with the risk of being interrupted counted in."""
    ONLY = "only"


# --- what a job asks for ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a machine must have for a job, from its rule's `threads` and `resources`.

    `mem_mb` and `disk_mb` are Snakemake's megabytes (10^6 bytes); `runtime_min` is minutes.
    `instance_types` are fnmatch patterns such as `m7i.*`; empty allows every type.
    """

    threads: int
    mem_mb: int
    disk_mb: int
    runtime_min: int | None = None
    gpus: int = 0
    gpu_model: str | None = None
    gpu_mem_mb: int = 0
    """Of each GPU."""
    nvme_gb: int = 0
    """Local NVMe disks (10^9 bytes), all together."""
    network_gbps: float = 0.0
    """The machine's sustained network bandwidth, in Gbit/s."""
    disk_mbps: int = 0
    """Throughput of the root volume in MiB/s; 0: what suits `staged_mib` and the machine."""
    disk_iops: int = 0
    staged_mib: int = field(default=0, compare=False)
    """Of its inputs, as far as they are known."""
    arch: Arch = Arch.X86_64
    instance_types: tuple[str, ...] = ()
    spot: SpotUse = SpotUse.NEVER
    ami: str | None = None
    """The rule's own machine image; None: the run's."""


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """One submission of Snakemake's (a job or a group job), ready to be run on a machine.

    Paths are the controller's (the machine's: `staging/paths.py`). Bash runs `command` in `workdir`.
    """

    key: str
    """Unique among all runs: part of the names of folders, log files and tags."""
    rule: str
    """The rule's name; for a group, its rules' names joined with `+`."""
    label: str
    """For people: `rule align (sample=A)`."""
    command: str
    decision: Mapping[str, Any] | None = field(default=None, repr=False)
    """What the machine's Snakemake is held to (see `plugin/decision.py`). With it, `command` is what a shell
    does before Snakemake starts; None: `command` is the job itself."""
    direct: Mapping[str, Any] | None = field(default=None, repr=False)
    """The job's own command and what is around it (`agent/direct.py`), if it needs no Snakemake there."""
    workdir: Path
    env: Mapping[str, str] = field(repr=False)
    """Environment variables with values that may be secret: never logged, never on a disk."""
    unset: tuple[str, ...] = ()
    """Environment variables that must not be set on the machine."""
    requirements: Requirements
    tools: tuple[str, ...] = ()
    """What the machine needs to deploy the job's software (see `Software.tools`)."""
    folders: tuple[Path, ...] = ()
    """Folders that must be writable on the machine for such software."""
    sources: tuple[Path, ...]
    """Files and folders of the workflow itself: Snakefiles, scripts, configs."""
    inputs: tuple[Path, ...]
    """Existing files and directories that the job reads."""
    read_again: tuple[Path, ...] = ()
    """Those of its declared inputs that jobs which wait for it read as well."""
    outputs: tuple[Path, ...]
    """Files and directories that come back after success; every one must exist."""
    optional_outputs: tuple[Path, ...] = ()
    """Comes back after success, if it exists."""
    logs: tuple[Path, ...] = ()
    """Comes back after success and after failure, if it exists."""
    own: tuple[Path, ...] = ()
    """All that the job makes, whether it comes back or not."""
    view: View | None = field(default=None, repr=False, compare=False)
    """What the machine sees of files that are not sent."""
    is_checkpoint: bool = False
    """Functions of the workflow may look at whatever it has made, declared or not."""
    incomplete: tuple[Path, ...] = ()
    """Comes back after a failure, if it exists: outputs, with `--keep-incomplete`."""
    fingerprint: str = ""
    """The same for submissions that would give the same results (see `plugin/fingerprint.py`)."""


# --- what EC2 has -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class InstanceType:
    """One row of EC2's catalogue (DescribeInstanceTypes). Sizes are nominal."""

    name: str
    vcpus: int
    mem_mib: int
    arches: frozenset[Arch]
    gpus: int = 0
    gpu_model: str = ""
    gpu_mem_mib: int = 0
    """Memory of all its GPUs together."""
    gpu_fraction: float = 1.0
    """Below 1 where its GPU is a part of a physical one: 0.125 for g6f.large."""
    nvme_gb: int = 0
    """Local solid-state NVMe disks, all together."""
    network_gbps: float = 0.0
    """The baseline, not the burst that `up to 12.5 Gigabit` names."""
    ebs_mbps: float = 0.0
    """The most that its EBS volumes reach together, in MB/s; 0: not known."""
    burstable: bool = False
    bare_metal: bool = False
    current_generation: bool = True
    free_tier: bool = False
    markets: frozenset[Market] = frozenset({Market.ON_DEMAND})
    accelerators: bool = False
    """Has accelerators that are not GPUs (FPGAs, Inferentia, Trainium, media)."""

    @property
    def family(self) -> str:
        """`m7i` of `m7i.large`."""
        return self.name.split(".", 1)[0]


@dataclass(frozen=True, kw_only=True)
class Price:
    """What an hour costs, and who says so."""

    usd_per_hour: float
    source: str
    """For people: `Pricing API, 2026-11-22` or `spot price history, 2026-11-22 14:05`."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A way to run a job: a type that fits, in a market, in the zones that have it."""

    instance_type: InstanceType
    market: Market
    zones: tuple[str, ...]
    price: Price | None
    """None if no price is known; such offers rank by size."""
    on_demand: Price | None = None
    """What the same type costs on demand, if this is a spot offer and it is known."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """A machine image, as far as a launch needs to know it."""

    ami: str
    name: str
    arch: Arch
    root_device: str
    root_gib: int
    """The smallest root volume that it can be started with."""
    other_devices: tuple[str, ...] = ()
    """Device names of further volumes that it brings; they end with the machine, too."""
    has_software: bool = False
    """It was baked for this run's software, and its root volume has room for that already."""


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """An ed25519 key pair in OpenSSH's formats; `private` is never logged."""

    private: str = field(repr=False)
    public: str
    """`ssh-ed25519 AAAA…`, without a comment."""


BASE_MBPS, BASE_IOPS = 125, 3000
"""What every gp3 volume has in its price: MiB/s, and operations a second."""


@dataclass(frozen=True, kw_only=True)
class WithDisk:
    """What has a root volume."""

    disk_gib: int
    disk_mbps: int = BASE_MBPS
    disk_iops: int = BASE_IOPS


@dataclass(frozen=True, kw_only=True)
class LaunchSpec(WithDisk):
    """Everything about one launch: the same spec gives the same request."""

    token: str
    """EC2 gives at most one machine for it. A ClientToken, or a part of one: at most 64 ASCII characters."""
    offer: Offer
    zone: str
    image: Image
    user_data: str = field(repr=False)
    tags: Mapping[str, str]
    instance_profile: str | None = None
    """Name or ARN of the IAM instance profile whose permissions the machine gets."""
    claim_s: float = 12 * 3600.0
    """After this many seconds it ends itself if no agent was installed on it."""


@dataclass(frozen=True, kw_only=True)
class Machine(WithDisk):
    """A machine that EC2 has launched."""

    id: str
    instance_type: str
    zone: str
    market: Market
    price: Price | None
    launched_at: float
    """Seconds since the epoch, by the controller's clock."""
    on_demand: Price | None = None
    """See `Offer.on_demand`."""


class MachineState(StrEnum):
    """EC2's instance states, and `unknown` for one that DescribeInstances does not show (yet)."""

    UNKNOWN = "unknown"
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"

    @property
    def is_gone(self) -> bool:
        """True if nothing can be run on it any more."""
        return self.value in ("stopping", "stopped", "shutting-down", "terminated")


@dataclass(frozen=True, kw_only=True)
class MachineStatus:
    """What EC2 says of a machine at one moment."""

    state: MachineState
    address: str | None = None
    """Where ssh reaches it: its public address, else its private one."""
    reason: str = ""
    """StateReason's code, such as `Server.SpotInstanceTermination`."""
    message: str = ""
    """StateReason's message: the code again, and what it means."""


# --- what happens on it -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Software:
    """What a machine needs installed to run jobs of this run."""

    snakemake: str
    """The controller's version: both ends must agree on the command line."""
    packages: tuple[str, ...] = ()
    """Further Python packages as pip requirements: storage plugins."""
    requirements: str = ""
    """The text of the user's requirements.txt."""
    setup: str = ""
    """The text of the user's setup script."""
    tools: tuple[str, ...] = ()
    """`conda` and `apptainer`, if Snakemake deploys a job's software with them."""
    late: tuple[str, ...] = ()
    """Names of programs: all this is installed when one of them is first called. Empty: before the job."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What was sent or fetched."""

    files: int
    bytes: int
    seconds: float
    kept: int = 0
    """Files that were there already, from an earlier job."""


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """A machine after a job, when what that has left was removed."""

    changed: str
    """What it has changed for good, so that no other job may run there: half a sentence; empty: nothing."""
    free_mib: int
    """Of its disk."""


# --- what became of it --------------------------------------------------------------------


class Phase(StrEnum):
    """A part of a job's time on its machine. Their sum is the job's whole time."""

    LAUNCH = "launch"
    BOOT = "boot"
    PREPARE = "prepare"
    """Software and inputs, in parallel."""
    RUN = "run"
    STAGE_OUT = "stage out"
    CLEAN = "clean"
    """Its traces are removed, for the machine's next job."""
    JOURNAL = "journal"
    """Whatever was under way: until this computer's disk had what a crash must not take back."""
    TERMINATE = "terminate"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the agent measured while the job ran."""

    peak_mem_mib: int = 0
    cpu_seconds: float = 0.0
    peak_disk_mib: int = 0


class Failure(StrEnum):
    """Why a job's command failed, according to the evidence on the machine."""

    EXIT = "exit"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out of memory"
    DISK_FULL = "disk full"
    RUNTIME = "over runtime"
    NO_SOFTWARE = "no software"
    """A program was to be installed when the job called it, and could not be."""
    DIFFERS = "differs"
    """It was not run: the machine would have computed something else than was decided."""


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """How the command ended on the machine."""

    exit_code: int
    """Negative: the signal that killed it."""
    failure: Failure | None = None
    """None for exit code 0."""
    evidence: str = ""
    """What the machine shows of why it failed: half a sentence."""
    seconds: float = 0.0
    usage: Usage = Usage()


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """What Snakemake is told about a job that has ended."""

    ok: bool
    message: str = ""
    """One sentence for the user if it is not ok."""
    log: Path | None = None
    """What the job printed, on the controller."""
    cancelled: bool = False
    for_good: bool = False
    """It would fail in the same way again, so it is not tried again."""
