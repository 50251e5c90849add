"""The `--ec2-*` options. A field `foo_bar` is `--ec2-foo-bar` on the command line and
`ec2-foo-bar:` in a profile. Imported at every start of Snakemake: keep it light.
"""

# No `from __future__ import annotations`: Snakemake reads the fields' types at run time.
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Optional

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

common_settings = CommonSettings(
    non_local_exec=True,
    # Snakemake then prepares software (conda, containers) on the machine and not here. The
    # executor gives back to the controller what staging provides, see `plugin/executor.py`.
    implies_no_shared_fs=True,
    job_deploy_sources=False,
    # `--envvars` values travel over the authenticated channel, never on a command line.
    pass_envvar_declarations_to_cmd=False,
    # The machine gets its storage plugins with its Snakemake, see `plugin/software.py`.
    auto_deploy_default_storage_provider=False,
    can_transfer_local_files=True,
    init_seconds_before_status_checks=0,
)


def listed(value: Iterable[str] | str | None) -> tuple[str, ...]:
    """The items of a list option, which may be given as words, with commas, or as both."""
    words = [value] if isinstance(value, str) else list(value or ())
    return tuple(item.strip() for word in words for item in word.split(",") if item.strip())


def _option(default: Any, help: str, *, metavar: str = "VALUE", **metadata: Any) -> Any:
    return field(default=default, metadata={"help": help, "metavar": metavar, **metadata})


def _duration(default: Optional[str], help: str, *, bare: str) -> Any:
    """A time with a unit (see `formatting.seconds`); a number alone is in the unit that it always was."""
    told = f" Default: {default}." if default else ""
    return _option(
        default, f"{help}{told} Written as 90s, 15m, 12h or 7d; a number alone is {bare}.", metavar="TIME"
    )


def _list_option(help: str, *, metavar: str) -> Any:
    return field(default_factory=list, metadata={"help": help, "metavar": metavar, "nargs": "+"})


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """Settings of the EC2 executor; every one has a default that suits a first run."""

    cloud: Optional[str] = _option(
        "aws",
        "Where machines come from: 'aws' is EC2, or whatever AWS_ENDPOINT_URL points at; 'local' "
        "is the embedded cloud, a rehearsal on this computer that costs nothing.",
        choices=["aws", "local"],
    )
    region: Optional[str] = _option(
        None, "AWS region, such as eu-central-1. Default: that of your AWS configuration.", metavar="REGION"
    )
    profile: Optional[str] = _option(
        None, "Named profile of your AWS configuration (~/.aws/config).", metavar="NAME"
    )
    ami: Optional[str] = _option(
        None,
        "Machine image to start. Default: the newest Amazon Linux 2023 for the job's architecture, for jobs "
        "with GPUs the one with NVIDIA's drivers.",
        metavar="AMI",
    )
    ssh_user: Optional[str] = _option(
        "ec2-user", "User to log in as; 'ubuntu' and 'admin' on Ubuntu's and Debian's images.", metavar="USER"
    )
    ssh_key: Optional[str] = _option(
        None,
        "Private key file (*.pem) that may also log in to the machines. Default: a key that is made for "
        "the run and forgotten after it.",
        metavar="FILE",
    )
    ssh_port: Optional[int] = _option(22, "Port of the machines' ssh server.", metavar="PORT", env_var=True)
    ssh_from: Optional[str] = _option(
        None,
        "Addresses (CIDR) that may reach the machines over ssh, or 'none'. Default: this computer's own "
        "address only; with --ec2-ssh-proxy those of the machines' own network.",
        metavar="CIDR",
    )
    ssh_to: Optional[str] = _option(
        "auto",
        "Which address machines are reached at: 'auto' is the public one if they have one; 'private' is for "
        "a computer in their network.",
        choices=["auto", "private"],
    )
    ssh_proxy: Optional[str] = _option(
        None,
        "Command through which machines are reached, as ssh's ProxyCommand: 'ssh -W %%h:%%p bastion', "
        "'aws ec2-instance-connect open-tunnel --instance-id %%n'. %%h is a machine's address, %%n its id, "
        "%%p the port, %%r the user. No shell reads it.",
        metavar="COMMAND",
    )
    public_ip: Optional[str] = _option(
        "auto",
        "'auto': machines have a public address in public subnets; 'never': they have none. They are then "
        "reached from within their network or with --ec2-ssh-proxy, and need a way to the internet.",
        choices=["auto", "never"],
    )
    allow_first_host_key: bool = _option(
        False,
        "Send data also to machines whose host key could not be renewed: the first one can be read in their "
        "user-data by anyone who may read that in your AWS account.",
    )
    instance_types: List[str] = _list_option(
        "Instance types that may be used, as patterns: 'm7i.*,c7i.*'. Default: every current type but "
        "burstable, bare-metal and accelerated ones; jobs that ask for a GPU get one.",
        metavar="PATTERNS",
    )
    exclude_types: List[str] = _list_option(
        "Instance types that are never used, as patterns: 'c5.*,*.metal*'.", metavar="PATTERNS"
    )
    arch: Optional[str] = _option(
        "x86_64",
        "Processor architecture of the machines. arm64 is cheaper, and not all software is built for it. "
        "The rule resource ec2_arch takes precedence.",
        choices=["x86_64", "arm64"],
    )
    free_tier: bool = _option(
        False, "Only take instance types that AWS's free tier covers; they are small and burstable."
    )
    spot: Optional[str] = _option(
        "never",
        "Whether to use spot machines, which cost about a third and may be taken back: 'prefer' uses them "
        "where a job's expected cost is lower, and an on-demand one after two that were taken back; "
        "'only' uses nothing else. The rule resource ec2_spot takes precedence.",
        choices=["never", "prefer", "only"],
    )
    disk_mbps: Optional[int] = _option(
        None,
        "Throughput of the machines' disks in MiB/s, 125 to 2000; more than 125 costs extra. Default: 125, "
        "or more for jobs with large inputs, up to 750, for at most a tenth of the machine's price. The rule "
        "resource ec2_disk_mbps takes precedence.",
        metavar="MIB",
    )
    disk_iops: Optional[int] = _option(
        None,
        "Operations a second of the machines' disks, 3000 to 80000; more than 3000 cost extra. Default: "
        "3000, or four for each MiB/s. The rule resource ec2_disk_iops takes precedence.",
        metavar="NUMBER",
    )
    max_price: Optional[float] = _option(
        None,
        "The most that a machine may cost, in US dollars an hour. Default: 10, so that a typing error in a "
        "rule's resources launches no expensive machine; 1 TB of memory costs about 7. 'inf' means no limit.",
        metavar="USD",
    )
    max_cost: Optional[float] = _option(
        None,
        "Budget in US dollars: a machine is launched only if its price for the rule's runtime (or for an "
        "hour), what has been spent, and what running machines are estimated to need fit into it. "
        "Otherwise its job waits while others run, and fails when none runs.",
        metavar="USD",
    )
    budget_period: Optional[str] = _option(
        "run",
        "What --ec2-max-cost counts: this run ('run'), all runs in this folder ('folder'), or those of "
        "this calendar month in it ('month').",
        choices=["run", "folder", "month"],
    )
    capacity_timeout: Optional[str] = _duration(
        "30m", "How long a job waits for a machine while EC2 has none of any type that fits.", bare="seconds"
    )
    subnets: List[str] = _list_option(
        "Subnets to start machines in. Default: those of the default VPC.", metavar="SUBNETS"
    )
    tags: List[str] = _list_option(
        "Tags for machines and their disks: 'project=thesis,cost-centre=4711'.", metavar="KEY=VALUE,…"
    )
    instance_profile: Optional[str] = _option(
        None,
        "IAM instance profile (name or ARN) whose permissions the machines get, for example to "
        "read and write buckets. Default: none, machines have no AWS permissions.",
        metavar="NAME",
    )
    requirements: Optional[str] = _option(
        None,
        "requirements.txt whose Python packages are installed on the machines, beside Snakemake.",
        metavar="FILE",
    )
    setup: Optional[str] = _option(
        None,
        "Shell script that prepares each machine (as the ssh user, sudo works): 'sudo dnf -y install …'.",
        metavar="FILE",
    )
    strict: bool = _option(
        False,
        "In a rehearsal (--ec2-cloud local), the run fails at its end if jobs used programs that the default "
        "image (Amazon Linux 2023) lacks, as far as is known. Without this option, they are only named.",
    )
    baked: Optional[str] = _option(
        "auto",
        "'auto': machines start from an image of your account that has the run's software, if "
        "`snakemake-ec2 bake` has made one; 'never': software is installed on each machine.",
        choices=["auto", "never"],
    )
    include: List[str] = _list_option(
        "Files and folders of any size that are sent with every job although no rule declares them, as "
        "patterns relative to the working directory: 'lookup/*.tsv,models'.",
        metavar="PATTERNS",
    )
    exclude: List[str] = _list_option(
        "Files and folders that are not sent with every job, as patterns: '**/*.ipynb,notes'. What a rule "
        "declares as input is sent all the same.",
        metavar="PATTERNS",
    )
    show_staging: bool = _option(
        False, "Show which files are sent with every job and why, and which input files each job gets."
    )
    direct: Optional[str] = _option(
        "auto",
        "'auto': plain shell rules and scripts in R, bash and Julia run without Snakemake on the machine; "
        "'never': all jobs run with it. --ec2-show-staging shows how each job runs.",
        choices=["auto", "never"],
    )
    reuse: Optional[str] = _option(
        "rule",
        "Whether a machine whose job has ended well takes another job, once all that the first has left was "
        "removed. 'rule': while there are jobs of the same rule; 'run': any job of the run that fits; "
        "'never': one machine for each job.",
        choices=["rule", "run", "never"],
    )
    idle: Optional[str] = _duration(
        "60s", "How long a machine without a job waits for the next one, at most.", bare="seconds"
    )
    look_ahead: Optional[str] = _option(
        "auto",
        "'auto': a machine is launched before its job is ready, so that it has booted by then: when what the "
        "job waits for has run and only its results are being fetched, or earlier if runs of this folder "
        "have shown how long rules take. 'off': when the job is ready.",
        choices=["auto", "off"],
    )
    peers: Optional[str] = _option(
        "auto",
        "'auto': a large file that several machines need is sent once, and they get it from each other, over "
        "ssh, by their private addresses; 'never': this computer sends it to each.",
        choices=["auto", "never"],
    )
    boot_timeout: Optional[str] = _duration(
        "5m", "Time after which a machine that does not answer over ssh is given up.", bare="seconds"
    )
    lost_after: Optional[str] = _duration(
        "10m",
        "Time after which a machine that does not answer and fails EC2's own checks counts as crashed: "
        "its job starts again on another one. Three times as long if EC2 finds nothing wrong but other "
        "machines answer. While EC2 does not answer either, no machine is given up.",
        bare="seconds",
    )
    lease: Optional[str] = _duration(
        None,
        "How long a machine waits for a Snakemake that no longer contacts it (a sleeping laptop, a lost "
        "connection) before it powers itself off. Default: 12h, or less if that would cost more than 10 "
        "dollars (but not less than the rule's runtime).",
        bare="minutes",
    )
    lifetime: Optional[str] = _duration(
        "7d",
        "Time after which a machine powers itself off whatever happens. For a rule with a runtime: at most "
        "that runtime plus the lease plus two hours.",
        bare="minutes",
    )

    notify: Optional[str] = _option(
        None,
        "Command or URL (https://…) that is told when the run has ended: it gets a small JSON document, a "
        "command on its standard input, a URL by POST. No shell reads the command. What may not be "
        "seen in a list of processes belongs into the variable SNAKEMAKE_EC2_NOTIFY.",
        metavar="COMMAND|URL",
        env_var=True,
    )
    detach: bool = _option(
        False,
        "Ctrl-C leaves machines with running jobs at work, for at most their lease; the same command "
        "resumes them. Without this option, Ctrl-C ends everything.",
    )
    keep_failed: Optional[str] = _duration(
        None,
        "How long the machine of a failed job is kept, to log in to it (snakemake-ec2 ssh). Default: not at "
        "all.",
        bare="minutes",
    )

    def __post_init__(self) -> None:
        # Snakemake makes these settings when this executor was chosen, before it parses.
        from snakemake_executor_ec2.plugin import environment, parse_reads, snakemake_private, stale_locks

        snakemake_private.hide_in_command(self.notify or "")
        stale_locks.listen()
        snakemake_private.add_to_lock_error(lambda: stale_locks.who_locks(Path.cwd()))
        parse_reads.listen()
        environment.listen()
