"""What a job needs from the outside world. Adapters and fakes pass the same contract tests.

Every call blocks; every error is one of `errors.py`. A call that asks AWS may raise CloudError,
and ConfigurationError if there are no credentials or no region.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

if TYPE_CHECKING:
    from snakemake_executor_ec2.cancellation import CancelToken
    from snakemake_executor_ec2.model import (
        Arch,
        Cleaned,
        Image,
        InstanceType,
        JobPlan,
        JobResult,
        KeyPair,
        LaunchSpec,
        Machine,
        MachineState,
        MachineStatus,
        Market,
        Price,
        Requirements,
        Software,
        Transfer,
    )
    from snakemake_executor_ec2.sizing.reuse import Used

T = TypeVar("T")

ANSWER_BYTES = 1 << 20
"""The longest answer of a command on a machine, unless the caller expects a longer one."""
LINE_BYTES = 8 << 20
"""The longest line of a `Conversation`."""


class Clock(Protocol):
    """Time, so that no unit test sleeps."""

    def now(self) -> float:
        """Seconds since the epoch; may jump when the computer's clock is set."""

    def monotonic(self) -> float:
        """Seconds that only grow, for durations. They may stand still while a laptop sleeps."""

    def sleep(self, seconds: float) -> None: ...


class Cloud(Protocol):
    """EC2, as far as this project uses it. One object serves a whole run, from many threads."""

    @property
    def region(self) -> str: ...

    @property
    def endpoint(self) -> str:
        """The URL of the EC2 that answers."""

    @property
    def account(self) -> str | None:
        """The AWS account's number; None: not known."""

    def take_over(self) -> Mapping[str, MachineState]:
        """Look after what an earlier process of the same run left: `close` ends it. Returns the
        machines that there are, with their states."""

    def check(self) -> None:
        """Check, before anything is launched, that credentials and region work.

        Raises ConfigurationError (no credentials, unknown region) or PermissionDenied.
        """

    def instance_types(self) -> tuple[InstanceType, ...]:
        """The region's catalogue, or what is known of it if the credentials may not ask."""

    def zones(self, instance_type: str) -> tuple[str, ...]:
        """The zones that offer a type and have one of the usable subnets, in a stable order."""

    def prices(self, market: Market) -> Mapping[tuple[str, str], Price]:
        """Prices by (instance type, zone); on-demand ones have "" for the zone. Empty: not known."""

    def quota(self, code: str) -> float | None:
        """The account's limit in vCPUs by its code, such as `L-1216C47A`; None: not known."""

    def image(self, ami: str | None, arch: Arch, *, gpu: bool = False) -> Image:
        """The given image, or the newest Amazon Linux 2023 of an architecture, for machines with a
        GPU one that has its drivers.

        Raises ConfigurationError if there is no such image, or it is for another architecture.
        """

    def launch(self, spec: LaunchSpec, cancel: CancelToken | None = None) -> Machine:
        """Start exactly one machine, reachable over ssh by this computer only.

        The same spec again (same token) gives the same machine. Specs of several threads that differ in
        nothing but their tokens may be one call. Raises LaunchError if EC2 refuses it or has none;
        ThrottledError or CredentialsExpired if the same spec may be asked for again; Cancelled if that
        happens before EC2 is asked.
        """

    def give_up(self, spec: LaunchSpec) -> None:
        """Nobody will ask for this machine again. If EC2 has not answered `launch`, what it may have started
        is found, in the background, and ended; a machine that `launch` gave is not. Raises nothing."""

    def status(self, machine_id: str) -> MachineStatus:
        """What EC2 says of it, at most 2 s old (4 s with hundreds). One API call serves all machines of the
        run."""

    def is_impaired(self, machine_id: str) -> bool:
        """Whether EC2's own checks of a running machine fail: it does not answer EC2 either. At most
        15 s old. Raises CloudError if EC2 does not answer (PermissionDenied: it answers, but the
        credentials may not ask), so that a call that returns shows that EC2 can be reached."""

    def allow_ssh_from_here(self, address: str) -> None:
        """Allow ssh from this computer's present address, if it has changed or the machine at `address`
        sees another one. Does nothing if it is allowed already."""

    def allow_ssh_between_machines(self) -> None:
        """Let the run's machines reach each other's ssh port, and nobody else. Needs a launch before."""

    def private_address(self, machine_id: str) -> str | None:
        """Where the run's other machines reach it; None if it does not run. As old as `status`."""

    def terminate(self, machine_ids: Collection[str]) -> None:
        """Ask EC2 to end machines; fine for machines that are gone. Returns when EC2 has
        accepted it, which is when billing ends."""

    def console_output(self, machine_id: str) -> str:
        """The end of what the machine printed while it booted, or an empty string."""

    def close(self) -> bool:
        """End every machine of this run that is left, remove what the run made (its security
        group); whether EC2 says that no machine is left. Safe to call twice; raises nothing that
        would hide another error."""


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A remote command that ended. `exit_code` is negative for a signal."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Conversation(Protocol):
    """A remote command whose standard input and output are used by turns."""

    def send(self, data: bytes) -> None:
        """Raises BrokenPipeError if the command stops reading, ConnectionLost."""

    def line(self, deadline: float | None) -> bytes | None:
        """The next whole line, without its end; None: there are no more. Raises ConnectionLost, also after
        the deadline (of `time.monotonic`)."""

    def end(self) -> Completed:
        """Wait for the end of a command that has stopped. Raises ConnectionLost."""

    def close(self) -> None:
        """Leave it: it finds its standard input ended."""


class RemoteHost(Protocol):
    """An authenticated ssh connection to one machine. Commands are run by its login shell.

    Every method raises ConnectionLost when the connection breaks.
    """

    @property
    def round_trip_s(self) -> float:
        """How long a word takes there and back, at best; 0: nothing is known of that."""

    @property
    def bulk_bytes(self) -> int:
        """From how many bytes on `upload` and `download` are faster with `bulk`; 0: they are not."""

    def pin(self, host_keys: Collection[str]) -> None:
        """From now on the machine may present these keys, to whatever else `bulk` connects."""

    def run(
        self,
        command: str,
        *,
        stdin: bytes = b"",
        timeout_s: float | None = None,
        most_bytes: int = ANSWER_BYTES,
    ) -> Completed:
        """Run a command to its end, even if it fails. Raises ConnectionLost on timeout, and InstanceLost if
        its standard output is longer than `most_bytes`: no agent of ours says so much."""

    def upload(self, command: str, write: Callable[[BinaryIO], None], *, bulk: bool = False) -> Completed:
        """Run a command and let `write` fill its standard input; it gets BrokenPipeError
        if the command stops reading. `bulk`: it is much."""

    def download(
        self, command: str, read: Callable[[BinaryIO], T], *, stdin: bytes = b"", bulk: bool = False
    ) -> T:
        """Run a command and let `read` consume its standard output; what comes after that is not kept.

        Raises InstanceLost if that does not end, StagingError with the command's standard error if it fails.
        """

    def lines(
        self, command: str, *, heartbeat_s: float | None = None, silence_s: float | None = None
    ) -> Iterator[bytes]:
        """The command's standard output, line by line, as it comes. Raises InstanceLost for a line that is
        longer than any of our agent's.

        Every `heartbeat_s` a newline is sent to its standard input. If nothing comes for
        `silence_s`, the connection counts as lost.
        """

    def converse(self, command: str) -> Conversation:
        """Run a command that is spoken with."""

    def close(self) -> None:
        """Close the connection; blocked calls of other threads end with ConnectionLost."""


class Connector(Protocol):
    """Opens ssh connections."""

    def connect(
        self, address: str, *, name: str = "", host_keys: Collection[str], timeout_s: float
    ) -> RemoteHost:
        """One attempt to reach a machine, which must present one of `host_keys`. `name` is its id, by which
        some ways (`--ec2-ssh-proxy`) find it.

        Raises HostKeyMismatch before anything is sent to it (no login, no data), and
        LoginRefused, ConnectError or ConnectionLost if it refuses the login or does not answer.
        """


class Session(Protocol):
    """What a job does on its machine, over a `Connection` (see `machines/session.py`)."""

    def move_in(self, lease_s: float, *, used: bool = False) -> None:
        """Install the agent, which from now on powers the machine off if no controller has contacted it
        for `lease_s` seconds. `used`: another job has been there."""

    def rotate_host_key(self, pin: Callable[..., None]) -> None:
        """Give the machine a host key that nobody else has seen, if possible. `pin` is called with the
        keys that it may present from now on: first the old and the new one, then only the new one."""

    def install_software(self, software: Software) -> None:
        """Install Snakemake and whatever else the job needs. Raises PreparationError."""

    def before_image(self, keys: Collection[str]) -> tuple[str, ...]:
        """Remove what an image of the machine must not keep: the agent, its lease, these login keys, host
        keys, logs. The files there that look like credentials. Raises PreparationError."""

    def saved_state(self) -> Mapping[str, Any]:
        """The saved state of a machine that is ready, as JSON values, for `resume`."""

    def resume(self, saved_state: Mapping[str, Any]) -> None:
        """Continue on a machine that another run made ready."""

    def lease(self, lease_s: float) -> None:
        """Set how long the machine waits for a controller from now on."""

    def renew(self) -> None:
        """Start the lease again at its full length."""

    def let_go(self) -> bool:
        """Make the machine power itself off, if a connection to it is open; returns whether it will."""

    def stage_in(self, plan: JobPlan) -> Transfer:
        """Send sources and inputs. Raises StagingError."""

    def run(self, plan: JobPlan, log: Path) -> JobResult:
        """Run the job to its end, detached from this connection; its output goes to `log`.

        One that runs or has ended already is followed from where `log` ends. Raises NotFetched if
        the job is cancelled while the log cannot be written: whether it has ended is not known."""

    def stage_out(self, plan: JobPlan, *, succeeded: bool) -> Transfer:
        """Fetch what comes back, each file under its name only when it is whole.

        Raises StagingError; NotFetched if the machine has results that could not be fetched."""

    def left(self, plan: JobPlan) -> Mapping[Path, int]:
        """Files that an ended job left beside its declared outputs, with sizes in bytes; empty if the
        machine cannot be asked."""

    def clean(self, plan: JobPlan) -> Cleaned:
        """Remove all that the job has left, for another one. Asked once: a machine that can't be asked is
        as good as changed. Raises nothing of ours."""


@dataclass(frozen=True, kw_only=True)
class BakedImage:
    """A machine image that `snakemake-ec2 bake` made, as EC2 describes it."""

    image: Image
    digest: str
    """Of the software that it holds (see `machines.baked.software_digest`)."""
    state: str
    """`available`, `pending` or `failed`, in EC2's words."""
    base: str
    """The id of the image that it was made from."""
    base_name: str
    holds: str
    """For people."""
    owner: str
    made_at: float
    """Seconds since the epoch."""
    gib: int
    """Of all its volumes together."""
    snapshots: tuple[str, ...]


class ImageStore(Protocol):
    """The account's images that `snakemake-ec2 bake` made, in one region. It knows no others."""

    def find(self, digest: str | None = None) -> tuple[BakedImage, ...]:
        """Those for some software, or all, newest first."""

    def check(self, machine_id: str, *, name: str, tags: Mapping[str, str]) -> None:
        """Raise PermissionDenied if `make` would be refused so, or another CloudError. Makes nothing."""

    def make(self, machine_id: str, *, name: str, tags: Mapping[str, str]) -> str:
        """Begin to make an image of a machine, which is rebooted for it; the image's id. The same name again
        gives the same image."""

    def state(self, ami: str) -> tuple[str, str]:
        """An image's state, and why if it failed; `unknown` if EC2 does not show it: not yet, or not any
        more."""

    def delete(self, ami: str) -> None:
        """Delete an image and its snapshots. Raises ConfigurationError if there is no such image."""


class LaunchRecords(Protocol):
    """The journal's side of a launch, so that a machine is found again after a crash."""

    def intend(self, job_key: str, spec: LaunchSpec) -> None:
        """Called before RunInstances. Raises LaunchError if it cannot be recorded."""

    def launched(self, token: str, machine: Machine) -> None:
        """Record the machine that the launch with this token gave."""


class Launches(Protocol):
    """Gets machines for plans (see `machines.launcher`)."""

    def launch(
        self,
        plan: JobPlan,
        host_key: KeyPair,
        machine_no: int,
        cancel: CancelToken,
        *,
        reclaimed: int = 0,
        unless: Callable[[float], bool] | None = None,
    ) -> Machine | None:
        """Launch the best machine available now, the `machine_no`th for this plan, after `reclaimed`
        spot machines that EC2 has reclaimed. Waits while there is none; None once `unless`, which waits
        for so many seconds at most, says that another machine has come free meanwhile.

        Raises NoFittingInstance, LaunchError (BudgetReached, CapacityError after a time, …) or another
        CloudError; Cancelled while it waits or tries.
        """

    def launch_now(self, plan: JobPlan, host_key: KeyPair, cancel: CancelToken) -> Machine | None:
        """Launch the best machine available now; None: EC2 has none, or a limit of the account or of the
        budget is in the way. No other machine ends for it. Raises as `launch` does."""

    def adopted(self, machine: Machine, requirements: Requirements) -> None:
        """Take over a machine that an earlier run launched, for a job of these requirements: it counts
        towards the account's limits and the budget until it is `released`."""

    def used(self, machine: Machine, launched_for: Requirements, *, rule: str, free_mib: int) -> Used | None:
        """A machine that has done a job of a rule, for another one to run there; None: its type is not in
        the catalogue."""

    def wanted(self, requirements: Requirements, reclaimed: int) -> Requirements:
        """The requirements, with spot only for as long as it is worth it."""

    def suits(self, used: Used, requirements: Requirements) -> bool:
        """Whether `reuse` would give such a job the machine."""

    def reuse(self, used: Used, requirements: Requirements) -> bool:
        """Give a machine that is idle a job of these requirements; False if that does not suit it, or does
        not fit into the budget."""

    def idle(self, machine: Machine, waiting_s: float) -> None:
        """A machine has no job, and may wait so long for the next one."""

    def released(self, machine: Machine, *, no_capacity: bool = False) -> None:
        """A machine has ended and no longer counts. `no_capacity`: EC2 has reclaimed it, and will not
        have another one like it for a while."""
