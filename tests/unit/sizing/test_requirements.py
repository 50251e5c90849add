"""From a rule's resources to `Requirements`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_ec2.errors import ConfigurationError
from snakemake_executor_ec2.model import Arch, Requirements
from snakemake_executor_ec2.sizing.dimensions import in_words
from snakemake_executor_ec2.sizing.requirements import requirements


class TBDString(str):
    """As Snakemake's: a text that prints as a placeholder."""

    def __new__(cls) -> TBDString:
        return super().__new__(cls, "<TBD>")


def ask(*, threads: int = 1, **resources: Any) -> Requirements:
    return requirements(threads=threads, resources=resources)


def test_defaults() -> None:
    """A rule that asks for nothing gets one thread, 1000 MB of memory and of disk, no GPU."""
    assert ask() == Requirements(threads=1, mem_mb=1000, disk_mb=1000)


@pytest.mark.parametrize("value", [None, "", TBDString()])
@pytest.mark.parametrize("name", ["mem_mb", "disk_mb", "runtime", "gpu", "gpu_model", "ec2_arch"])
def test_absent(name: str, value: Any) -> None:
    """A resource without a value, or with one that is not settled yet, counts as absent."""
    assert ask(**{name: value}) == ask()


def test_everything() -> None:
    """Every resource that is understood ends up in its field."""
    assert ask(
        threads=8,
        mem_mb=16000,
        mem_mib=1,
        disk_mb=50000,
        disk_mib=1,
        runtime=90,
        gpu=2,
        gpu_model="l4",
        gpu_mem_mb=20000,
        ec2_nvme_gb=500,
        ec2_network_gbps=12.5,
        ec2_instance_type="g6.*, G5.12xlarge",
        ec2_arch="x86_64",
        _cores=8,
        _nodes=1,
        tmpdir="/tmp",
    ) == Requirements(
        threads=8,
        mem_mb=16000,
        disk_mb=50000,
        runtime_min=90,
        gpus=2,
        gpu_model="l4",
        gpu_mem_mb=20000,
        nvme_gb=500,
        network_gbps=12.5,
        instance_types=("g6.*", "g5.12xlarge"),
    )


@given(st.integers(1, 10**9))
def test_mebibytes(mebibytes: int) -> None:
    """Where only MiB are given, the megabytes hold at least as many bytes, and hardly more."""
    megabytes = ask(mem_mib=mebibytes).mem_mb
    assert 0 <= megabytes * 10**6 - mebibytes * 2**20 < 10**6


@pytest.mark.parametrize(("value", "expected"), [("4000", 4000), (4000.2, 4001), ("1e3", 1000), (" 7 ", 7)])
def test_numbers_as_text(value: Any, expected: int) -> None:
    """Numbers may come as text or with a fraction, which is rounded up."""
    assert ask(mem_mb=value).mem_mb == expected


@pytest.mark.parametrize("value", [-1, "-1", "4GB", "lots", True, float("nan"), float("inf"), "inf", []])
@pytest.mark.parametrize("name", ["mem_mb", "mem_mib", "runtime"])
def test_bad_numbers(name: str, value: Any) -> None:
    """A value that is no number, or less than none, is refused, and resource and value are named."""
    with pytest.raises(ConfigurationError) as caught:
        ask(**{name: value})
    assert f"{name}={value!r}" in str(caught.value)


@pytest.mark.parametrize("value", [0, "0", 0.0])
@pytest.mark.parametrize("name", ["mem_mb", "mem_mib", "runtime", "gpu", "tasks"])
def test_zero_asks_for_nothing(name: str, value: Any) -> None:
    """Snakemake's own tests have `mem_mb=0`: the machine is the one that a rule without it gets."""
    assert ask(**{name: value}) == ask()


def test_ranks_of_mpi_are_threads_of_one_machine() -> None:
    """Each task has the job's threads; without `mpi`, `tasks` is a resource of the workflow's own."""
    assert ask(threads=2, mpi="mpiexec", tasks=5).threads == 10
    assert ask(threads=2, mpi="mpiexec").threads == 2
    assert ask(threads=2, tasks=5).threads == 2
    with pytest.raises(ConfigurationError, match="a job runs on one machine"):
        ask(mpi="mpiexec", tasks=4, nodes=2)


@pytest.mark.parametrize("value", [-1, "24GB", True, float("nan"), "inf"])
@pytest.mark.parametrize("name", ["gpu_mem_mb", "gpu_mem_mib", "ec2_nvme_gb", "ec2_network_gbps"])
def test_bad_sizes_of_what_few_machines_have(name: str, value: Any) -> None:
    """GPU memory, local disks and network are refused like memory, by name and value."""
    with pytest.raises(ConfigurationError) as caught:
        ask(**{name: value})
    assert f"{name}={value!r}" in str(caught.value)


@pytest.mark.parametrize("name", ["disk_mb", "gpu", "gpus", "gpu_mem_mb", "ec2_nvme_gb", "ec2_network_gbps"])
def test_zero_is_fine_for_what_may_be_missing(name: str) -> None:
    """No disk and no GPU can be asked for; less than none can't."""
    ask(**{name: 0})
    with pytest.raises(ConfigurationError, match=name):
        ask(**{name: -1})


@pytest.mark.parametrize(("given", "expected"), [(0, 1), (1, 1), (96, 96)])
def test_threads(given: int, expected: int) -> None:
    """A job has at least one thread."""
    assert ask(threads=given).threads == expected


def test_bad_threads() -> None:
    """A negative number of threads is refused."""
    with pytest.raises(ConfigurationError, match="threads=-2"):
        ask(threads=-2)


def test_gpu_model_implies_one_gpu() -> None:
    """Naming a model is asking for one; asking for none forgets the model."""
    assert ask(gpu_model="a100").gpus == 1
    assert ask(gpu=0, gpu_model="a100").gpu_model is None
    assert ask(gpus=4).gpus == 4


def test_gpu_memory_implies_one_gpu() -> None:
    """It is meant of each GPU, and asks for one where none is named; asking for none forgets it."""
    assert (ask(gpu_mem_mb=24000).gpus, ask(gpu_mem_mb=24000).gpu_mem_mb) == (1, 24000)
    assert (ask(gpu=0, gpu_mem_mb=24000).gpus, ask(gpu=0, gpu_mem_mb=24000).gpu_mem_mb) == (0, 0)
    assert ask(gpu_mem_mib=22888).gpu_mem_mb == 24000


def test_network_may_have_a_fraction() -> None:
    """EC2's baselines do: 0.781 Gbit/s; a text is fine."""
    assert ask(ec2_network_gbps="0.781").network_gbps == 0.781


@pytest.mark.parametrize(
    ("value", "arch"),
    [("arm64", Arch.ARM64), ("aarch64", Arch.ARM64), ("AMD64", Arch.X86_64), ("x86_64", Arch.X86_64)],
)
def test_arch(value: str, arch: Arch) -> None:
    """Architectures go by the names that people use."""
    assert ask(ec2_arch=value).arch is arch


@pytest.mark.parametrize("value", ["riscv", "i386", 64])
def test_bad_arch(value: Any) -> None:
    """An architecture that EC2 does not have is refused by name."""
    with pytest.raises(ConfigurationError, match="ec2_arch"):
        ask(ec2_arch=value)


def test_a_misspelt_resource() -> None:
    """It would be without effect, on a machine that is paid for."""
    with pytest.raises(ConfigurationError, match="did you mean ec2_instance_type"):
        ask(ec2_instancetype="m7i.large")
    assert ask(ec2x=1) == ask()


def test_default_arch() -> None:
    """The run's architecture holds where a rule names none."""
    asked = requirements(threads=1, resources={}, default_arch=Arch.ARM64)
    assert asked.arch is Arch.ARM64


def test_a_rules_own_types_replace_the_runs() -> None:
    """The run's patterns hold where a rule has none of its own."""
    allowed = ("m7i.*,c7i.*", "m7i.*")
    assert requirements(threads=1, resources={}, allowed_types=allowed).instance_types == ("m7i.*", "c7i.*")
    own = requirements(threads=1, resources={"ec2_instance_type": "r7i.large"}, allowed_types=allowed)
    assert own.instance_types == ("r7i.large",)


@pytest.mark.parametrize("value", [", ,", 7])
def test_bad_types(value: Any) -> None:
    """A type that names nothing is refused."""
    with pytest.raises(ConfigurationError, match="ec2_instance_type"):
        ask(ec2_instance_type=value)


def test_what_a_job_needs_is_said_in_words() -> None:
    """What it did not ask for is left out."""
    assert in_words(ask(mem_mb=500)) == "1 thread, 500 MB"
    said = in_words(
        ask(threads=4, mem_mb=8000, gpu=1, gpu_model="L4", gpu_mem_mb=24000, ec2_network_gbps=1.5)
    )
    assert said == "4 threads, 8000 MB, 1 GPU (L4), 24000 MB on each GPU, 1.5 Gbit/s"
