"""What a host of the embedded cloud is like from inside, and how it starts and ends."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import time
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path

import paramiko
import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud

from .conftest import Machine, Rig, new_key, wait_for

needs_openssh = pytest.mark.skipif(shutil.which("scp") is None, reason="OpenSSH is not installed")


def test_host_is_another_computer(machine: Machine, tmp_path: Path) -> None:
    """It has another name and home, and sees no file of this computer's working or temporary folders."""
    (tmp_path / "secret").write_text("here")
    seen = machine.run(f"cat {tmp_path}/secret; ls -d {Path.cwd()}; ls -A /tmp", check=False)
    assert "here" not in seen.replace("there", "")
    assert seen.count("No such file") == 2
    name = machine.run("hostname").strip()
    assert name == f"ip-{machine.address.replace('.', '-')}.ec2.internal"
    assert machine.run("id -un; echo $HOME; pwd; echo $LOGNAME").split() == [
        "ec2-user",
        "/home/ec2-user",
        "/home/ec2-user",
        "ec2-user",
    ]


def test_same_absolute_path_can_be_made(machine: Machine) -> None:
    """`sudo mkdir -p` and `sudo chown` make any absolute path the user's, this computer's own included."""
    path = f"{Path.cwd()}/only-on-the-host"
    machine.run(f"sudo mkdir -p {path} && sudo chown ec2-user:ec2-user {path} && touch {path}/file")
    assert machine.run(f"ls {path}").strip() == "file"
    assert not Path(path).exists()


def test_system_directories_are_the_hosts_own(machine: Machine) -> None:
    """What is installed here can be used there, and what is written there stays there."""
    machine.run(
        "sudo tee /usr/local/bin/tool < /bin/true > /dev/null && sudo chmod +x /usr/local/bin/tool && tool"
    )
    machine.run("echo x | sudo tee /etc/only-on-the-host")
    assert not Path("/usr/local/bin/tool").exists()
    assert not Path("/etc/only-on-the-host").exists()
    assert "no host key" in machine.run(
        "sudo cat /etc/shadow /etc/ssh/*_rsa_key || echo no host key 2>&1", check=False
    )


def test_python_and_uv_are_there_without_the_controllers_packages(machine: Machine) -> None:
    """A Python that is new enough and uv can be found; the packages of this test's environment can't."""
    machine.run("python3 -c 'import sys; assert sys.version_info >= (3, 9)'")
    machine.run(
        "uv venv -q env --python '>=3.11' && "
        "env/bin/python -c 'import sys; assert sys.prefix != sys.base_prefix'"
    )
    assert "No module" in machine.run("env/bin/python -c 'import moto'", check=False)


def test_no_variable_of_this_computer_leaks(machine: Machine) -> None:
    """The environment is the host's: no credential, no HOME of ours, none of the test's variables."""
    os.environ["ONLY_HERE"] = "1"
    names = {line.partition("=")[0] for line in machine.run("env").splitlines()}
    assert not [name for name in names if name.startswith("AWS_") and "METADATA" not in name]
    assert "ONLY_HERE" not in names
    assert {
        "UV_CACHE_DIR",
        "PYTHONPYCACHEPREFIX",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "SSH_CONNECTION",
    } <= names


def test_sudo_takes_the_forms_that_people_write(machine: Machine) -> None:
    """Options are understood, the environment is reset unless told otherwise, the status is right."""
    assert machine.run("sudo -n -- echo a").strip() == "a"
    assert machine.run("A=1 sudo sh -c 'echo [$A] $HOME $USER'").split() == ["[]", "/root", "root"]
    assert machine.run("export A=1; sudo -nE sh -c 'echo [$A]'").strip() == "[1]"
    assert machine.run("sudo -u ec2-user B='x y' sh -c 'echo $B $HOME'").strip() == "x y /home/ec2-user"
    assert machine.run("sudo -iH pwd").strip() == "/root"
    assert machine.run("sudo sh -c 'exit 7'; echo $?").strip() == "7"
    machine.run("touch f && sudo chown root:root f && sudo install -o root -g root -m 600 f g && ls g")


def test_only_the_images_user_may_log_in(machine: Machine) -> None:
    """root, another name, and the right name with another key are all refused."""
    for user in ("root", "ubuntu"):
        with pytest.raises(paramiko.AuthenticationException):
            machine.connect(user=user)
    other = Machine(machine.rig, machine.id, machine.address, machine.host_key, new_key())
    with pytest.raises(paramiko.AuthenticationException):
        other.connect()


def test_bytes_exit_status_and_signals_pass(machine: Machine) -> None:
    """Channels are binary-safe in both directions and say how the program ended."""
    client = machine.clients[0]
    data = bytes(range(256)) * 4096
    stdin, stdout, stderr = client.exec_command("tee /dev/stderr; exit 5")
    stderr.channel.settimeout(30)
    stdin.write(data)
    stdin.channel.shutdown_write()
    assert stdout.read() == data
    assert stderr.read() == data
    assert stdout.channel.recv_exit_status() == 5
    _, stdout, _ = client.exec_command("kill -KILL $$")
    assert stdout.channel.recv_exit_status() == -1


def test_detached_process_survives_its_connection(rig: Rig) -> None:
    """What called setsid runs on when the connection that started it is gone."""
    launched = rig.launch()
    launched.run("setsid sh -c 'sleep 0.6; echo done > done' </dev/null >/dev/null 2>&1 & echo")
    launched.clients.pop().close()
    assert wait_for(lambda: launched.run("cat done", check=False).strip() == "done")


def test_ten_sessions_a_connection(machine: Machine) -> None:
    """As with OpenSSH's default MaxSessions, an eleventh channel is refused and the others go on."""
    client = machine.connect()
    channels = [client.exec_command("read line; echo $line") for _ in range(10)]
    with pytest.raises(paramiko.ChannelException):
        client.exec_command("true")
    for stdin, stdout, _ in channels:
        stdin.write(b"x\n")
        assert stdout.read() == b"x\n"
    machine.clients.remove(client)
    client.close()


def test_shell_with_a_terminal(machine: Machine) -> None:
    """`ssh` by hand gives a shell on a terminal of the host."""
    channel = machine.clients[0].invoke_shell(width=77, height=11)
    channel.sendall(b"tty; stty size; exit 3\n")
    assert channel.recv_exit_status() == 3
    output = b""
    while chunk := channel.recv(65536):
        output += chunk
    assert b"/dev/pts/" in output
    assert b"11 77" in output


@needs_openssh
@pytest.mark.parametrize("protocol", [[], ["-O"]], ids=["sftp", "legacy"])
def test_scp_round_trip(machine: Machine, tmp_path: Path, protocol: list[str]) -> None:
    """OpenSSH's scp carries a folder there and back, whole, with modes and times."""
    source = tmp_path / "a b"
    source.mkdir()
    (source / "data").write_bytes(os.urandom(3_000_000))
    (source / "tool").write_text("#!/bin/sh\n")
    (source / "tool").chmod(0o755)
    os.utime(source / "data", (1_500_000_000, 1_500_000_000))
    scp = ["scp", *protocol, "-r", "-p", "-q", *machine.rig.openssh(machine)]
    subprocess.run([*scp, str(source), f"{machine.address}:up"], check=True)
    subprocess.run([*scp, f"{machine.address}:up", str(tmp_path / "down")], check=True)
    assert (tmp_path / "down/data").read_bytes() == (source / "data").read_bytes()
    assert (tmp_path / "down/data").stat().st_mtime == 1_500_000_000
    assert (tmp_path / "down/tool").stat().st_mode & 0o777 == 0o755
    machine.run("rm -rf up")


def test_sftp_does_what_paramiko_asks(machine: Machine, tmp_path: Path) -> None:
    """Files, folders, links, renames, attributes and errors over paramiko's SFTP."""
    sftp = machine.clients[0].open_sftp()
    (tmp_path / "f").write_bytes(os.urandom(1_000_000))
    sftp.put(str(tmp_path / "f"), "s1")
    sftp.get("s1", str(tmp_path / "g"))
    assert (tmp_path / "g").read_bytes() == (tmp_path / "f").read_bytes()
    sftp.mkdir("folder")
    sftp.symlink("/home/ec2-user/s1", "folder/link")
    assert sftp.readlink("folder/link") == "/home/ec2-user/s1"
    assert sftp.stat("folder/link").st_size == 1_000_000
    assert sftp.listdir("folder") == ["link"]
    assert sftp.normalize("folder/../s1") == "/home/ec2-user/s1"
    sftp.posix_rename("s1", "s2")
    sftp.chmod("s2", 0o640)
    sftp.truncate("s2", 10)
    sftp.utime("s2", (1, 2))
    found = sftp.stat("s2")
    assert (found.st_size, found.st_mode & 0o777, found.st_mtime) == (10, 0o640, 2)  # type: ignore[operator]
    with pytest.raises(FileNotFoundError):
        sftp.stat("nothing")
    with pytest.raises(OSError, match="exists"):
        sftp.rename("s2", "folder")
    with pytest.raises(PermissionError):
        sftp.open("/proc/1/mem")
    sftp.remove("folder/link")
    sftp.rmdir("folder")
    sftp.close()


def test_cloud_config_runs_in_order(rig: Rig) -> None:
    """bootcmd, files and keys come before sshd answers; runcmd and `cloud-init status --wait` after."""
    launched = rig.launch(
        {
            "bootcmd": ["false", ["sh", "-c", "echo 'a  b' > /root/boot; id -un >> /root/boot; exit 3"]],
            "write_files": [
                {"path": "/opt/x/file", "permissions": "0750", "encoding": "b64", "content": "aGk="},
            ],
            "runcmd": ["sleep 0.5", "echo ran > /root/run"],
        }
    )
    launched.login()
    assert launched.run("sudo cat /root/boot").splitlines()[0] == "a  b"
    assert launched.run("cat /opt/x/file; stat -c %a /opt/x/file").split() == ["hi750"]
    assert "No such file" in launched.run("cat /root/run", check=False)
    assert "done" in launched.run("cloud-init status --wait")
    assert launched.run("cat /root/run").strip() == "ran"
    assert "Failed to run bootcmd" in launched.run("cat /var/log/cloud-init-output.log")


@pytest.mark.parametrize("form", ["gzip", "mime", "script"])
def test_user_data_in_its_other_forms(rig: Rig, form: str) -> None:
    """Compressed, multipart, and a bare script."""
    key = new_key()
    rig.ec2.import_key_pair(KeyName=form, PublicKeyMaterial=key.public.encode())
    config, script = (
        "#cloud-config\nruncmd: [echo config >> /root/out]\n",
        "#!/bin/sh\necho script >> /root/out\n",
    )
    data: str | bytes = script
    if form == "gzip":
        data = gzip.compress(config.encode())
    elif form == "mime":
        message = MIMEMultipart()
        message.attach(MIMEText(config, "cloud-config"))
        message.attach(MIMEText(script, "x-shellscript"))
        data = message.as_string()
    launched = rig.launch(UserData=data, KeyName=form)
    wait_for(lambda: "finished" in rig.ec2.get_console_output(InstanceId=launched.id).get("Output", ""))
    console = rig.ec2.get_console_output(InstanceId=launched.id)["Output"]
    launched.login_key = key
    launched.host_key = type(key)("", console.split("KEY KEYS-----\n")[1].splitlines()[0])
    expected = {"gzip": ["config"], "mime": ["config", "script"], "script": ["script"]}
    assert launched.run("cat /root/out").split() == expected[form]
    rig.ec2.delete_key_pair(KeyName=form)


def test_malformed_user_data_locks_everybody_out(rig: Rig) -> None:
    """As on EC2: the machine runs, the log says why, and no key was installed."""
    document = {"ssh_authorized_keys": [new_key().public]}
    launched = rig.launch(UserData=f"#cloud-config\n{json.dumps(document)[:-2]}")
    wait_for(lambda: "finished" in rig.ec2.get_console_output(InstanceId=launched.id).get("Output", ""))
    console = rig.ec2.get_console_output(InstanceId=launched.id)["Output"]
    assert "Failed loading yaml blob" in console
    launched.host_key = type(launched.host_key)("", console.split("KEY KEYS-----\n")[1].splitlines()[0])
    with pytest.raises(paramiko.AuthenticationException):
        launched.connect()


@pytest.mark.parametrize("command", ["sudo shutdown -h now", "sudo systemctl poweroff", "sudo poweroff -f"])
def test_power_off_from_inside_terminates(rig: Rig, command: str) -> None:
    """The machine that ends itself is terminated, with EC2's reason and without a process left."""
    launched = rig.launch()
    launched.login()
    pid = launched.facts()["pid"]
    launched.clients[0].exec_command(command)
    launched.wait_until("terminated")
    assert launched.described()["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert not Path(f"/proc/{pid}").exists()


def test_power_off_stops_where_that_is_the_behavior(rig: Rig) -> None:
    """InstanceInitiatedShutdownBehavior=stop, which is EC2's default, keeps the instance."""
    launched = rig.launch(InstanceInitiatedShutdownBehavior="stop")
    launched.login()
    launched.clients[0].exec_command("sudo shutdown now")
    launched.wait_until("stopped")


def test_power_off_wants_sudo(machine: Machine) -> None:
    """As on EC2, an ordinary user may not power off."""
    assert "authentication required" in machine.run("systemctl poweroff", check=False)


def test_timer_from_bootcmd_ends_the_machine(rig: Rig) -> None:
    """A lifetime set with `systemd-run --on-active` in bootcmd outlives cloud-init and powers off."""
    timer = "systemd-run --no-block --collect --unit=life --on-active=1.5 --timer-property=AccuracySec=1s"
    launched = rig.launch({"bootcmd": [f"timeout 10 {timer} /bin/sh -c 'systemctl poweroff'"]})
    started = time.monotonic()
    assert launched.run("systemctl is-active life.timer").strip() == "active"
    launched.wait_until("terminated")
    assert 1 < time.monotonic() - started < 6
    assert launched.described()["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_timers_can_be_taken_back(machine: Machine) -> None:
    """`systemctl stop` disarms a timer; a name can't be used twice at a time; services start at once."""
    machine.run("sudo systemd-run --unit=t1 --on-active=1 touch /tmp/t1")
    assert "already loaded" in machine.run("sudo systemd-run -u t1 --on-active=1 true", check=False)
    machine.run("sudo systemctl stop t1.timer && sudo systemd-run -E A=5 sh -c 'echo $A > /tmp/t2'")
    assert wait_for(lambda: machine.run("cat /tmp/t2", check=False).strip() == "5")
    time.sleep(1.1)
    machine.run("test ! -e /tmp/t1")
    assert machine.run("sudo systemd-run --wait --pipe -q sh -c 'echo out; exit 4'; echo $?").split() == [
        "out",
        "4",
    ]
    machine.run("sudo systemctl reload sshd && sudo systemctl restart ssh && systemctl is-system-running")
    assert "not found" in machine.run("sudo systemctl stop no-such-unit", check=False)


def test_host_key_is_the_one_given_and_can_be_rotated(rig: Rig) -> None:
    """sshd shows the key of the user-data, and after a rotation on the machine the new one."""
    launched = rig.launch()
    launched.login()
    new = new_key()
    launched.run(
        "sudo tee /etc/ssh/ssh_host_ed25519_key >/dev/null && sudo systemctl reload sshd",
        data=new.private.encode(),
    )
    with pytest.raises(paramiko.SSHException, match="another host key"):
        launched.connect()
    launched.host_key = new
    launched.connect()


def test_security_groups_are_enforced(rig: Rig) -> None:
    """Without a rule for this address nothing answers, not even a banner; with one, one gets in."""
    group = rig.ec2.create_security_group(GroupName="shut", Description="d")["GroupId"]
    launched = rig.launch(SecurityGroupIds=[group])
    wait_for(lambda: "finished" in rig.ec2.get_console_output(InstanceId=launched.id).get("Output", ""))
    port = rig.cloud.ssh_port
    elsewhere = rig.rule(port) | {"IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    other_ports = [rig.rule(port) | {"FromPort": port + 1, "ToPort": port + 9}, rig.rule(port - 1)]
    rig.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[elsewhere, *other_ports])
    assert launched.is_silent()
    assert launched.facts()["connections"] == {"attempted": 1, "admitted": 0, "authenticated": 0}
    rig.ec2.authorize_security_group_ingress(
        GroupId=group, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "127.0.0.1/32"}]}]
    )
    launched.connect()
    counted = {"attempted": 2, "admitted": 1, "authenticated": 1}
    wait_for(lambda: launched.facts()["connections"] == counted)


@pytest.mark.parametrize("spread", [0, 1, 1000], ids=["the port", "around it", "a wide range"])
def test_a_rule_for_the_port_that_sshd_has_lets_in(tmp_path: Path, spread: int) -> None:
    """Whoever may not use port 22 gets another, and it is that one which a rule has to open."""
    with EmbeddedCloud(ssh_port=0, cache_dir=tmp_path / "cache") as cloud:
        assert cloud.ssh_port != 22
        rig = Rig(cloud, tmp_path)
        group = rig.ec2.create_security_group(GroupName="shut", Description="d")["GroupId"]
        launched = rig.launch(SecurityGroupIds=[group])
        rig.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rig.rule(22)])
        wait_for(lambda: "finished" in rig.ec2.get_console_output(InstanceId=launched.id).get("Output", ""))
        assert launched.is_silent()
        rule = rig.rule(cloud.ssh_port)
        rule |= {"FromPort": rule["FromPort"] - spread, "ToPort": rule["ToPort"] + spread}
        rig.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
        launched.connect().close()


_WHO_IT_IS = """
print(ask("meta-data/instance-id", {}))
token = ask("api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
for path in ("meta-data/instance-id", "meta-data/instance-type", "meta-data/placement/availability-zone",
             "meta-data/public-ipv4", "meta-data/spot/instance-action"):
    print(ask(path, {"X-aws-ec2-metadata-token": token}))
print(ask("user-data", {"X-aws-ec2-metadata-token": token})[:13])
"""


def test_metadata_service(machine: Machine) -> None:
    """IMDSv2: a token first, then who the instance is, and its user-data."""
    answers = machine.asks(_WHO_IT_IS).split("\n")
    zone = machine.facts()["zone"]
    assert answers[:-1] == ["401", machine.id, "m5.large", zone, machine.address, "404", "#cloud-config"]
