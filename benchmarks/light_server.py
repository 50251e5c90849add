"""Light machines behind real ssh: one server for all of them, each with an address of its own on loopback.

Any key may log in. The machines cannot replace their host key, so all have the server's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import asyncssh

from benchmarks.light import PULSE, Costs, LightMachine
from snakemake_executor_ec2.controller.process import allow_many_files
from snakemake_executor_ec2.ssh.keys import new_key_pair

_WORKERS = 64


class _Door(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - anybody
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002 - with any key
        return True


class _Machines:
    """By the address that was connected to."""

    def __init__(self, host_key: str, costs: Costs) -> None:
        self._host_key = host_key
        self._costs = costs
        self._known: dict[str, LightMachine] = {}
        self._workers = ThreadPoolExecutor(_WORKERS)

    async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """One command."""
        address, command = process.get_extra_info("sockname")[0], process.command or ""
        machine = self._known.setdefault(address, LightMachine(self._host_key, self._costs))
        machine.new_key = self._host_key
        name = machine.arguments(command)[0]
        if name == "install":
            pass  # it ends at once, and does not stay for what follows
        elif name == "follow":
            await _follow(machine, command, process)
        else:
            stdin = await process.stdin.read()
            loop = asyncio.get_running_loop()
            process.stdout.write(
                await loop.run_in_executor(self._workers, _answer, machine, name, command, stdin)
            )
        process.exit(0)


async def _follow(machine: LightMachine, command: str, process: asyncssh.SSHServerProcess[bytes]) -> None:
    async def answer_heartbeats() -> None:
        async for _ in process.stdin:
            process.stdout.write(PULSE + b"\n")

    answering = asyncio.create_task(answer_heartbeats())
    await asyncio.sleep(max(0.0, machine.left_s(command)))
    answering.cancel()
    process.stdout.write(machine.ended() + b"\n")


def _answer(machine: LightMachine, name: str, command: str, stdin: bytes) -> bytes:
    if name != "pack":
        return machine.answer(command, b"" if name == "unpack" else stdin)
    stream = BytesIO()
    machine.pack(stdin, stream)
    return stream.getvalue()


async def main() -> None:
    """Serve until standard input ends; the first line of output says where, as JSON."""
    allow_many_files()
    key = new_key_pair()
    machines = _Machines(key.public, Costs(**json.loads(sys.argv[1])))
    acceptor = await asyncssh.listen(
        "0.0.0.0",  # noqa: S104 - 127.0.0.0/8 has an address for each machine
        0,
        server_host_keys=[asyncssh.import_private_key(key.private)],
        server_factory=_Door,
        process_factory=machines.serve,
        encoding=None,
        backlog=1000,
    )
    print(json.dumps({"port": acceptor.get_port(), "private": key.private, "public": key.public}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    acceptor.close()


if __name__ == "__main__":
    asyncio.run(main())
