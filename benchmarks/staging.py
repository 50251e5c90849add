"""How fast files go to a machine and come back, beside others: `python -m benchmarks.staging`.

To OpenSSH's sshd on this computer and back, by turns, all over connections that stand: one large file
(`--mib`), a mixed tree and many small files (`--files` of 4 KiB) on loopback, beside `scp -r`, `rsync -a` and
`tar | ssh`; the same, smaller, over a line with a round trip of 50 ms, beside `scp -r`. Loopback has no
delay, so small files cost scp nothing but work; on a real network each also costs it a round trip. And how
many bytes a transfer takes that is cut at 10, 50 and 90 %, how many over a slow line if it can be compressed,
and by how much the controller grows.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import sizes
from benchmarks.staging_ways import Openssh, Ours, Scp, Way, others
from snakemake_executor_ec2.agent.archive import Entry
from snakemake_executor_ec2.agent.transfer import Upload
from snakemake_executor_ec2.errors import ConnectionLost
from tests.sshd import Server, Wire, find_sshd, openssh

_ONE_WAY_S = 0.025
_CUTS = (0.1, 0.5, 0.9)
_SLOW = 2e6


def main() -> None:
    """Print seconds and ratios, medians of some rounds."""
    options = sizes(__doc__, rounds=(5, 1), mib=(1024, 8), files=(5000, 100), far_mib=(128, 4))
    if find_sshd() is None or shutil.which("scp") is None:
        sys.exit("sshd and scp are needed: apt-get install openssh-server openssh-client")
    with TemporaryDirectory() as name, openssh(Path(name, "server")) as server:
        folder = Path(name)
        sources = {
            f"one file of {options.mib} MiB": _tree(folder / "large", [options.mib << 20]),
            f"mixed, {options.mib // 2} MiB": _tree(folder / "mixed", _mixed(options.mib << 19)),
            f"{options.files} files of 4 KiB": _tree(folder / "small", [4096] * options.files),
        }
        with Ours(server, server.port) as ours, Openssh(server, server.port, folder) as line:
            for what, source in sources.items():
                _compare(what, source, folder, [ours, *others(line)], options.rounds)
            print(f"the controller has grown by {_grown(ours, sources, folder) >> 20} MiB at most")
        far = {
            f"one file of {options.far_mib} MiB": _tree(folder / "far", [options.far_mib << 20]),
            f"{options.files // 100} files of 4 KiB": _tree(
                folder / "far-small", [4096] * (options.files // 100)
            ),
        }
        with (
            _far(server.port) as port,
            Ours(server, port) as ours,
            Openssh(server, port, folder) as line,
        ):
            for what, source in far.items():
                _compare(f"50 ms, {what}", source, folder, [ours, Scp(line)], options.rounds)
        _cut(server, folder / "far", folder / "cut")
        _compressed(server, folder, options.far_mib << 17)


def _tree(folder: Path, lengths: list[int]) -> Path:
    """A folder with files of these lengths, a hundred in each of its folders."""
    for number, length in enumerate(lengths):
        path = folder / f"{number // 100}" / f"{number}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while length > 0:
                length -= file.write(os.urandom(min(length, 1 << 24)))
    return folder


def _mixed(size: int) -> list[int]:
    """Lengths from bytes to a third of it all, as results have them."""
    draw = random.Random(1)  # noqa: S311 - the same every time
    lengths = [size // 3]
    while sum(lengths) < size:
        lengths.append(int(min(size / 10, draw.lognormvariate(11, 2.5))))
    return lengths


def _compare(what: str, source: Path, folder: Path, ways: list[Way], rounds: int) -> None:
    taken: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            there, back = folder / "there", folder / "back"
            taken.setdefault((way.name, "up"), []).append(_timed(way.send, source, there))
            taken.setdefault((way.name, "down"), []).append(_timed(way.fetch, there, back))
            _same(source, back)
            shutil.rmtree(there)
            shutil.rmtree(back)
    for direction in ("up", "down"):
        medians = {way.name: statistics.median(taken[way.name, direction]) for way in ways}
        mine = medians.pop("ours")
        spread = taken["ours", direction]
        best = min(medians, key=medians.__getitem__)
        told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in medians.items())
        print(
            f"{what}, {direction}: ours {mine:.2f} s ({min(spread):.2f} to {max(spread):.2f}), {told}; "
            f"{mine / medians[best]:.2f} of {best}",
            flush=True,
        )


def _timed(copy: Callable[[Path, Path], None], source: Path, target: Path) -> float:
    began = time.monotonic()
    copy(source, target)
    return time.monotonic() - began


def _same(source: Path, back: Path) -> None:
    """Raise unless what has come back is what was sent."""
    subprocess.run(["diff", "-rq", source, back], check=True)


@contextlib.contextmanager
def _far(port: int) -> Iterator[int]:
    """The port of a line with a delay, in a process of its own."""
    program = (
        "import sys\nfrom tests.sshd import Wire\n"
        f"with Wire({port}, delay_s={_ONE_WAY_S}) as wire:\n print(wire.port, flush=True)\n sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as far:
        assert far.stdin
        assert far.stdout
        yield int(far.stdout.readline())
        far.stdin.close()


def _grown(ours: Ours, sources: dict[str, Path], folder: Path) -> int:
    """The most that this process has grown by in a transfer up and down, in bytes."""
    most = 0
    for source in sources.values():
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak until now
        ours.send(source, folder / "there")
        ours.fetch(folder / "there", folder / "back")
        most = max(most, _resident("VmHWM") - before)
        shutil.rmtree(folder / "there")
        shutil.rmtree(folder / "back")
    return most


def _resident(what: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) << 10
    raise ValueError(what)


def _cut(server: Server, source: Path, there: Path) -> None:
    """Send a folder over a line that breaks three times, at 100 MB/s."""
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    left = [share * size for share in _CUTS]

    def progress(done: int, _total: int) -> None:
        if left and done >= left[0]:
            left.pop(0)
            wire.cut()

    with Wire(server.port, bytes_per_s=1e8) as wire:
        upload = Upload([Entry(path=str(source), name=str(there))], progress=progress)
        done = False
        while not done:
            with Ours(server, wire.port) as ours, contextlib.suppress(ConnectionLost):
                upload.over(ours.host)
                done = True
        print(f"cut at 10, 50 and 90 %: {wire.carried / size:.2f} of its bytes sent in all")
    _same(source, there)


def _compressed(server: Server, folder: Path, size: int) -> None:
    """Send text over a line of 2 MB/s."""
    draw = random.Random(2)  # noqa: S311 - the same every time
    source = folder / "text" / "variants.vcf"
    source.parent.mkdir()
    with source.open("w") as file:
        while file.tell() < size:
            file.write(
                f"chr1\t{draw.randrange(10**8)}\t.\tA\tC\t{draw.random():.3f}\tPASS\tDP={draw.randrange(99)}\n"
            )
    with Wire(server.port, bytes_per_s=_SLOW) as wire, Ours(server, wire.port) as ours:
        before = wire.carried
        seconds = _timed(ours.send, source.parent, folder / "text-there")
        share = (wire.carried - before) / size
        print(f"text over 2 MB/s: {share:.2f} of its bytes sent, {seconds / (size / _SLOW):.2f} of the time")
    _same(source.parent, folder / "text-there")


if __name__ == "__main__":
    main()
