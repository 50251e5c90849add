"""Machines that take one job after the other: what each sees, and what is left when the run ends badly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner
from tests.chaos.witness import END, Witness
from tests.workflow.killing import alive, launched_since, wait_for, watched

_SEES = (
    "find ~ /tmp /var/tmp /dev/shm . -path ~/.snakemake-ec2 -prune -o -type f -print |"
    "  grep -v -e '/[abc].txt' -e '/out$' | sort > {output};"
    "env | grep -v HOSTNAME | sort >> {output};"
    "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[s]leep 1000' >> {output} || true;"
)
_LEAVES = (
    "mkdir -p ~/.cache/tool /tmp/x; touch ~/.cache/tool/{wildcards.n} /tmp/x/{wildcards.n} side;"
    "echo changed >> in.txt; echo 'export SEEN=1' >> ~/.bash_login;"
    "setsid sleep 1000 > /dev/null 2>&1 & (setsid bash -c 'while sleep 0.01; do date >> '$PWD'/late; done' &)"
)


def test_each_job_is_alone(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """The second and third job of a machine see what the first one saw: files, an input, the environment,
    processes. (Results that are here already are stand-ins there, as always.)"""
    before = list(ec2_cloud.machine_states())
    reads = (
        "cat in.txt >> out; sha256sum large >> out; cp out {output}; [ {wildcards.n} != b ] || echo >> large;"
    )
    shell = _SEES.replace("{output}", "out") + reads + _LEAVES
    (run_workflow.folder / "large").write_bytes(b"0" * (2 << 20))
    result = run_workflow(
        {
            "Snakefile": "rule all:\n    input: expand('{n}.txt', n=[*'abc'])\n"
            f"rule one:\n    input: 'in.txt', 'large'\n    output: '{{n}}.txt'\n    shell: {shell!r}\n",
            "in.txt": "as it was\n",
        },
        "--verbose",
        jobs=1,
    )
    assert result.returncode == 0, result.output
    first, second, third = ((run_workflow.folder / f"{n}.txt").read_text() for n in "abc")
    assert "as it was" in first
    assert first == second == third
    assert len(launched_since(ec2_cloud, before)) == 1
    assert re.search(r"running rule one \(n=.\) on i-\w+, its third job", result.output)
    assert "beside 1 large file that it had" in result.output
    assert "EC2: 3 jobs on 1 machine in " in result.output


@pytest.mark.slow
def test_a_changed_machine_is_replaced(run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud) -> None:
    """Software that one job has put among the machine's own is not there for the next one."""
    before = list(ec2_cloud.machine_states())
    result = run_workflow(
        {
            "Snakefile": "rule all:\n    input: 'a.txt', 'b.txt'\n"
            "rule one:\n    output: '{n}.txt'\n"
            "    shell: '(tool || echo none) > {output}; sudo ln -s /bin/hostname /usr/local/bin/tool'\n"
        },
        jobs=1,
    )
    assert result.returncode == 0, result.output
    assert [(run_workflow.folder / name).read_text() for name in ("a.txt", "b.txt")] == ["none\n"] * 2
    assert "gets no other job after rule one" in result.output
    assert "it has changed /usr/local/bin" in result.output
    assert len(launched_since(ec2_cloud, before)) == 2


@pytest.mark.parametrize(("reuse", "machines"), [("run", 1), pytest.param("rule", 3, marks=pytest.mark.slow)])
def test_a_chain_of_rules(
    reuse: str, machines: int, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """With `run`, any job that fits takes the machine of the one before."""
    before = list(ec2_cloud.machine_states())
    result = run_workflow(
        {
            "Snakefile": "rule c:\n    input: 'b.txt'\n    output: 'c.txt'\n"
            "    shell: 'cat {input} > {output}'\n"
            "rule b:\n    input: 'a.txt'\n    output: 'b.txt'\n    run:\n"
            "        open(output[0], 'w').write(open(input[0]).read())\n"
            "rule a:\n    output: 'a.txt'\n    shell: 'seq 400000 > {output}'\n"
        },
        "--ec2-reuse",
        reuse,
        "--verbose",
    )
    assert result.returncode == 0, result.output
    assert (run_workflow.folder / "c.txt").read_text().split() == [*map(str, range(1, 400_001))]
    assert len(launched_since(ec2_cloud, before)) == machines
    # What one job has made is there for the next one.
    assert result.output.count("beside 1 large file that it had") == (2 if machines == 1 else 0)


_WITH_A_GAP = (
    "localrules: gate\n"
    "rule all:\n    input: '2.txt'\n"
    "rule gate:\n    input: '1.txt'\n    output: '1.gate'\n    shell: 'sleep 3; touch {output}'\n"
    "rule one:\n    input: lambda w: [] if w.n == '1' else '1.gate'\n    output: '{n}.txt'\n    shell: "
)


@pytest.mark.parametrize("end", ["SIGKILL", pytest.param("Ctrl-C", marks=pytest.mark.slow)])
def test_a_machine_that_waits_when_the_run_ends(
    end: str, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """Ctrl-C ends it at once, and the next call what a SIGKILL has left: no job was at work there."""
    before = list(ec2_cloud.machine_states())
    run_workflow.place({"Snakefile": f"{_WITH_A_GAP}'date > {{output}}'\n"})
    first = watched(run_workflow, "--rerun-incomplete")
    first.until("Finished jobid")
    assert len(alive(ec2_cloud)) == 1
    if end == "SIGKILL":
        first.kill()
        assert len(alive(ec2_cloud)) == 1
    else:
        first.interrupt()
        assert first.wait() == 1
        wait_for(lambda: not alive(ec2_cloud))

    second = watched(run_workflow, "--rerun-incomplete")

    assert second.wait() == 0, second.output
    assert ("ending 1 machine" in second.output) == (end == "SIGKILL")
    assert len(launched_since(ec2_cloud, before)) == 2
    wait_for(lambda: not alive(ec2_cloud))


def test_a_second_job_is_adopted(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, tmp_path: Path
) -> None:
    """A SIGKILL in the second job of a machine: the next call resumes that one, and only that."""
    before = list(ec2_cloud.machine_states())
    with Witness() as seen:
        command = f"{seen.begin('n{wildcards.n}')}; sleep 4; date > {{output}}; {END}"
        run_workflow.place({"Snakefile": f"{_WITH_A_GAP}{command!r}\n"})
        first = watched(run_workflow, "--rerun-incomplete")
        first.until("running rule one (n=2)")
        first.kill()
        second = watched(run_workflow, "--rerun-incomplete")
        assert second.wait() == 0, second.output
    assert sorted(seen.done()) == ["n1", "n2"]
    assert "resuming rule one (n=2)" in second.output
    assert len(launched_since(ec2_cloud, before)) == 1
    wait_for(lambda: not alive(ec2_cloud))
