"""Every exception of this project.

    Ec2ExecutorError                 a WorkflowError: Snakemake prints its text, no traceback
    ├── ConfigurationError           refused before anything costs money
    │   ├── NoFittingInstance        no allowed instance type has what the job asks for
    │   ├── JournalOfAnotherVersion  it names machines in a way that this version does not read
    │   └── SnakefileUnreadable      it can't be read with what travels; knows which files it misses
    ├── CloudError                   AWS did not do what it was asked for
    │   ├── CredentialsExpired       they were good once: log in again, and the same call works
    │   ├── PermissionDenied         names the IAM action that is missing
    │   ├── ThrottledError           too many requests: try again later
    │   └── LaunchError              no machine was launched
    │       ├── CapacityError        not now, of this type, in this zone: try another
    │       ├── QuotaError           the account's limit: wait until one of the run's machines has ended
    │       └── BudgetReached        --ec2-max-cost: nothing more is launched
    ├── ConnectError                 the machine could not be reached (in time)
    │   ├── ConnectionLost           a connection that worked broke off: try again
    │   ├── LoginRefused             the machine answers and refuses the user: a wrong --ec2-ssh-user
    │   └── HostKeyMismatch          something else answers at its address: nothing was sent
    ├── PreparationError             a machine could not be made ready: software, for instance
    ├── StagingError                 a file could not be sent or fetched, or another command there failed
    │   ├── NotFetched               results could not be fetched yet; the machine still has them
    │   └── ResultsRefused           results that can never be fetched
    ├── InstanceLost                 the machine is gone: crashed, reclaimed, powered off
    └── Cancelled                    the user asked for it; never shown as a failure

A job's own failure (a non-zero exit, out of memory, …) is a `JobOutcome`, not an exception.
Errors of boto3, paramiko and the operating system are translated once, at their adapter,
with `raise … from`.
"""

from __future__ import annotations

from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError


class Ec2ExecutorError(WorkflowError):
    """An error for the user: one sentence that says what failed and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class ConfigurationError(Ec2ExecutorError):
    """A setting, a resource or an environment that cannot work; nothing was launched."""


class NoFittingInstance(ConfigurationError):
    """No allowed instance type fits; the message names the nearest one and what it lacks."""


class JournalOfAnotherVersion(ConfigurationError):
    """A folder's journal has other tables than this version's: it is neither read nor written."""


class SnakefileUnreadable(ConfigurationError):
    """The Snakefile can't be read with what travels; `files` are those that it may not open there."""

    def __init__(self, message: str, *, files: frozenset[Path] = frozenset()) -> None:
        super().__init__(message)
        self.files = files


class CloudError(Ec2ExecutorError):
    """AWS refused a call, or did not answer it. `code` is AWS's error code, empty if there was none."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class CredentialsExpired(CloudError):
    """AWS does not take the credentials any more; after a new login the same call may be made again."""


class PermissionDenied(CloudError):
    """The credentials lack an IAM permission; `action` is its name, such as `ec2:RunInstances`."""

    def __init__(self, message: str, *, action: str, code: str = "UnauthorizedOperation") -> None:
        super().__init__(message, code=code)
        self.action = action


class ThrottledError(CloudError):
    """AWS asks for fewer requests, or had an internal error; the same call may be made again."""


class LaunchError(CloudError):
    """No machine was launched: EC2 refused it, or something here that would make it useless or lost."""


class CapacityError(LaunchError):
    """EC2 has no such machine there now."""


class QuotaError(LaunchError):
    """The account's vCPU or instance limit is reached."""


class BudgetReached(LaunchError):
    """The run's estimated cost has reached what the user allowed."""


class ConnectError(Ec2ExecutorError):
    """A machine does not answer over ssh, or refuses the login."""


class ConnectionLost(ConnectError):
    """An ssh connection that worked broke off; the machine may still be there. `came_further`: what was under
    way has come further over it, or the reason is not the machine's."""

    def __init__(self, message: str, *, came_further: bool = False) -> None:
        super().__init__(message)
        self.came_further = came_further


class LoginRefused(ConnectError):
    """The machine answers, and does not accept the run's user and key (yet)."""


class HostKeyMismatch(ConnectError):
    """Something else answers at the machine's address: it does not have the machine's host key."""


class PreparationError(Ec2ExecutorError):
    """A machine could not be made ready for its job; `log` is the end of the installer's output, where
    that is what failed."""

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class StagingError(Ec2ExecutorError):
    """A file could not be sent to the machine or fetched from it."""


class NotFetched(StagingError):
    """A job's results are still on its machine. `here`: your computer could not store them (a full
    disk), which may change; otherwise they could not be read on the machine, or were refused."""

    def __init__(self, message: str, *, here: bool = False) -> None:
        super().__init__(message)
        self.here = here


class ResultsRefused(StagingError):
    """A job's results hold what is never accepted, or what your computer or the machine cannot handle: no
    later attempt changes that, so the machine is not kept for one."""


class InstanceLost(Ec2ExecutorError):
    """The machine ended while it was needed. `reason` is EC2's code, such as
    `Server.SpotInstanceTermination` or `Client.InstanceInitiatedShutdown`."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def by_spot(self) -> bool:
        """True if EC2 reclaimed a spot machine."""
        return self.reason.startswith("Server.SpotInstance")

    @property
    def for_want_of_capacity(self) -> bool:
        """True if EC2 reclaimed the machine, or accepted its launch and then had no capacity for it."""
        return self.by_spot or self.reason == "Server.InsufficientInstanceCapacity"


class Cancelled(Ec2ExecutorError):
    """The run was cancelled while this job was under way."""
