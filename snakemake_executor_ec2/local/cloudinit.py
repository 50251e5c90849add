"""Does on a host what cloud-init does at boot, in its order, and keeps the log that the console shows."""

from __future__ import annotations

import asyncssh

from .host import Host, run_to_end
from .image import ROOT_ONLY, USER
from .userdata import UserData, parse

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
_LOG = "/var/log/cloud-init-output.log"
_INSTANCE = "/var/lib/cloud/instance"
_SCRIPTS = f"{_INSTANCE}/scripts"
_MARKER = "/var/lib/cloud/data/instance-id"
"""Whose first boot has been: on a disk that came with an image, it may be another instance's."""


class CloudInit:
    """One boot of one host. `before_sshd`, then sshd may answer, then `after_sshd`."""

    def __init__(self, host: Host, user_data: bytes, *, login_keys: list[str], instance_id: str) -> None:
        self._host = host
        self._user_data: UserData = parse(user_data)
        self._login_keys = login_keys
        self._instance_id = instance_id
        self._first_boot = True
        self.log = ""

    async def before_sshd(self) -> None:
        """bootcmd at every boot; at the instance's first one also files, host keys and login keys."""
        await self._say(f"Cloud-init v. embedded running 'init' on {self._host.hostname}")
        ours = f"{self._instance_id}\n".encode()
        self._first_boot = await self._host.read(_MARKER) != ours
        if self._first_boot:
            await run_to_end(self._host, ["/bin/rm", "-rf", self._host.path(_INSTANCE)])
            await self._host.write(_MARKER, ours)
        await self._run("bootcmd", self._user_data.commands("bootcmd"))
        if self._first_boot:
            await self._write_files()
            await self._install_host_keys()
            await self._install_login_keys()
        await self._say_complaints()
        await self._say_host_keys()

    async def after_sshd(self) -> None:
        """runcmd and scripts, at the first boot; then `cloud-init status --wait` returns."""
        if self._first_boot:
            await self._run("runcmd", self._user_data.commands("runcmd"))
            for number, script in enumerate(self._user_data.scripts, start=1):
                await self._run(f"part-{number:03}", script)
            await self._say_complaints()
        await self._host.write("/var/lib/cloud/instance/boot-finished", b"")
        await self._say("Cloud-init v. embedded finished. Datasource DataSourceEc2Local")

    async def _say(self, text: str) -> None:
        line = text if text.endswith("\n") else f"{text}\n"
        self.log += line
        await self._host.write(_LOG, line.encode(errors="surrogateescape"), append=True)

    async def _say_complaints(self) -> None:
        for complaint in self._user_data.complaints:
            await self._say(f"[WARNING]: {complaint}")
        self._user_data.complaints.clear()

    async def _run(self, name: str, script: bytes | None) -> None:
        if script is None:
            return
        path = f"{_SCRIPTS}/{name}"
        await self._host.write(path, script, mode=0o700)
        status, output = await run_to_end(self._host, [self._host.path(path)])
        if output:
            await self._say(output.decode(errors="replace"))
        if status:
            await self._say(f"[WARNING]: Failed to run {name}: exit status {status}")

    async def _write_files(self) -> None:
        for path, content, mode, append in self._user_data.files():
            error = await self._host.write(path, content, mode=mode, append=append)
            if error:
                await self._say(f"[WARNING]: write_files: {error}")

    async def _install_host_keys(self) -> None:
        given = self._user_data.config.get("ssh_keys")
        if isinstance(given, dict) and given:
            for name, text in given.items():
                kind, _, part = str(name).rpartition("_")
                path = f"/etc/ssh/ssh_host_{kind}_key" + (".pub" if part == "public" else "")
                content = f"{str(text).strip()}\n".encode()
                if part == "public":
                    # Before 23.1, and on Amazon Linux 2023 so, cloud-init gives it to root alone.
                    await self._host.write(path, content, mode=0)
                    await self._host.write(ROOT_ONLY, f"{self._host.path(path)}\n".encode(), append=True)
                else:
                    await self._host.write(path, content, mode=0o600)
            return
        key = asyncssh.generate_private_key("ssh-ed25519", comment=f"root@{self._host.hostname}")
        await self._host.write(HOST_KEY, key.export_private_key(), mode=0o600)
        await self._host.write(f"{HOST_KEY}.pub", key.export_public_key(), mode=0o644)

    async def _install_login_keys(self) -> None:
        keys = self._login_keys + self._user_data.authorized_keys(USER)
        path = f"/home/{USER}/.ssh/authorized_keys"
        # Those that an image brings stay, as with the real one.
        before = (await self._host.read(path) or b"").decode(errors="surrogateescape").splitlines()
        text = "".join(f"{key}\n" for key in dict.fromkeys([*before, *map(str.strip, keys)]))
        await self._host.write(path, text.encode(errors="surrogateescape"), mode=0o600)
        await run_to_end(self._host, ["/bin/chmod", "700", self._host.path(f"/home/{USER}/.ssh")])

    async def _say_host_keys(self) -> None:
        """The lines by which one may know a machine's key from its console."""
        data = await self._host.read(HOST_KEY)
        try:
            key = asyncssh.import_private_key(data or b"")
        except asyncssh.KeyImportError as error:
            await self._say(f"[WARNING]: {HOST_KEY}: {error}")
            return
        public = key.export_public_key().decode().strip()
        await self._say("-----BEGIN SSH HOST KEY FINGERPRINTS-----")
        await self._say(f"256 {key.get_fingerprint()} root@{self._host.hostname} (ED25519)")
        await self._say("-----END SSH HOST KEY FINGERPRINTS-----")
        await self._say(f"-----BEGIN SSH HOST KEY KEYS-----\n{public}\n-----END SSH HOST KEY KEYS-----")
