"""What is removed before an image is made of a machine, and what stays, on a tree that looks like one."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_ec2.agent import setup_mounts
from snakemake_executor_ec2.agent.imaging import clean
from snakemake_executor_ec2.agent.state import AgentError
from tests.unit.agent.machine import Machine

OURS = "ssh-ed25519 AAAAOURS"
THEIRS = "ssh-ed25519 AAAATHEIRS the image's own"
HOME = "/home/ec2-user"

GOES = (
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "etc/ssh/ssh_host_rsa_key.old",
    "var/lib/cloud/data/instance-id",
    "var/lib/cloud/instances/i-1/user-data.txt",
    "var/lib/systemd/random-seed",
    "var/lib/dhclient/eth0.lease",
    "var/log/journal/0123/system.journal",
    "tmp/leftover/file",
    "tmp/.hidden",
    "root/.bash_history",
    f"{HOME[1:]}/.python_history",
    f"{HOME[1:]}/.snakemake-ec2/lease",
    f"{HOME[1:]}/.snakemake-ec2/guard.log",
    f"{HOME[1:]}/.snakemake-ec2/host-key",
    f"{HOME[1:]}/.snakemake-ec2/setup.sh",
    f"{HOME[1:]}/.snakemake-ec2/requirements.txt",
    f"{HOME[1:]}/.snakemake-ec2/software.log",
    f"{HOME[1:]}/.snakemake-ec2/late/request.json",
    f"{HOME[1:]}/.snakemake-ec2/jobs/r.1.1/output.log",
    f"{HOME[1:]}/.snakemake-ec2/0123456789ab/agent.pyz",
    f"{HOME[1:]}/.snakemake-ec2/made by a later version",
)
STAYS = (
    "etc/ssh/sshd_config",
    "etc/fstab",
    "var/lib/cloud/scripts/per-boot/the-images-own",
    "opt/tool/bin/tool",
    f"{HOME[1:]}/data",
    f"{HOME[1:]}/.aws/credentials",
    f"{HOME[1:]}/.snakemake-ec2/env/bin/python",
    f"{HOME[1:]}/.snakemake-ec2/conda/condabin/conda",
    f"{HOME[1:]}/.snakemake-ec2/shims/python",
    f"{HOME[1:]}/.snakemake-ec2/software-0123.json",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (*GOES, *STAYS, "etc/machine-id", "var/log/secure", "etc/passwd"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content\n")
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nadmin:x:5:5::/srv/admin:/bin/sh\nbroken\n"
    )
    for home in ("root", HOME[1:], "srv/admin"):
        (tmp_path / home / ".ssh").mkdir(parents=True)
    return tmp_path


def test_what_must_not_be_in_an_image_is_removed(tree: Path) -> None:
    """Host keys, cloud-init's marks, the lease and the agent, logs, histories; and nothing but that. Files
    that look like credentials are named."""
    private = clean(str(tree), HOME, [OURS])

    assert [name for name in GOES if (tree / name).exists()] == []
    assert [name for name in STAYS if not (tree / name).exists()] == []
    assert (tree / "etc/machine-id").read_text() == (tree / "var/log/secure").read_text() == ""
    assert private == [f"{HOME}/.aws/credentials"]


def test_only_our_login_keys_are_removed(tree: Path) -> None:
    """From every user's file, with whatever options they stand there; a file of nothing else goes."""
    forced = f'no-port-forwarding,command="echo Please login as ec2-user" {OURS} made for a run'
    (tree / "root/.ssh/authorized_keys").write_text(f"{forced}\n")
    (tree / HOME[1:] / ".ssh/authorized_keys").write_text(f"{THEIRS}\n{OURS}\n")
    (tree / "srv/admin/.ssh/authorized_keys").write_text(f"# theirs\n{THEIRS}\n")

    clean(str(tree), HOME, [OURS])

    assert not (tree / "root/.ssh/authorized_keys").exists()
    assert (tree / HOME[1:] / ".ssh/authorized_keys").read_text() == f"{THEIRS}\n"
    assert (tree / "srv/admin/.ssh/authorized_keys").read_text() == f"# theirs\n{THEIRS}\n"


def test_what_cannot_be_removed_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that would keep it is not made."""
    monkeypatch.setattr("snakemake_executor_ec2.agent.imaging.shutil.rmtree", lambda _path: None)

    with pytest.raises(AgentError, match=r"would keep what it must not: .*var/lib/cloud/instances"):
        clean(str(tree), HOME, [])


def test_what_is_logged_meanwhile_is_no_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """journald makes a new journal for the next line."""
    journal = tree / "var/log/journal/0123/system.journal"

    def locked_out(_path: str, _blobs: set[str]) -> None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.write_text("a line\n")

    monkeypatch.setattr("snakemake_executor_ec2.agent.imaging._shut_out", locked_out)

    clean(str(tree), HOME, [OURS])

    assert journal.read_text() == "a line\n"


def test_the_lease_ends_before_its_file_is_gone_for_good(machine: Machine, tmp_path: Path) -> None:
    """Its guard, which might write the file again or end the machine, has ended when it returns."""
    machine.ask("guard", request={"lease_s": 600, "poweroff": "true"})
    assert any("guarding" in command for _, command in machine.processes())

    clean(str(tmp_path), f"/{machine.home.name}", [])

    assert not any("guarding" in command for _, command in machine.processes())
    assert not (machine.state / "lease").exists()


def test_what_is_mounted_and_would_be_lost_is_an_error(tree: Path) -> None:
    """Machines that start from the image would write to the root disk instead, and nobody would notice. What
    /etc/fstab mounts at every boot is no loss."""
    note = tree / HOME[1:] / ".snakemake-ec2/mounts.json"
    note.write_text('["/mnt/nvme", "/data"]')
    (tree / "etc/fstab").write_text("server:/ /data nfs defaults 0 0\n")

    with pytest.raises(AgentError, match=r"the setup script mounts /mnt/nvme, which"):
        clean(str(tree), HOME, [])

    note.write_text('["/data"]')
    clean(str(tree), HOME, [])
    assert not note.exists()


def test_mounts_are_noted(tmp_path: Path) -> None:
    """Those that were not there before, of file systems that keep files."""
    there = tmp_path / "mounts"
    there.write_text(
        "/dev/a / xfs rw 0 0\ntmpfs /run/user/1000 tmpfs rw 0 0\n/dev/b /mnt/my\\040nvme xfs rw 0 0\n\n#\n"
    )

    assert setup_mounts.now(str(there)) == {"/", "/mnt/my nvme"}
    setup_mounts.note(str(tmp_path), setup_mounts.now())
    assert setup_mounts.lost_in_an_image(str(tmp_path), str(there)) == []
    setup_mounts.note(str(tmp_path), set())
    assert "/" not in setup_mounts.lost_in_an_image(str(tmp_path), str(there))
    assert setup_mounts.lost_in_an_image(str(tmp_path), str(tmp_path / "none"))
