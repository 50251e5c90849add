"""What cannot work is refused with one clear sentence, before anything costs money."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner


@dataclass(frozen=True, kw_only=True)
class Refusal:
    says: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    resources: str = ""
    prepare: Callable[[EmbeddedCloud], object] | None = None


CASES = {
    "no credentials": Refusal(
        env={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, says=("credentials", "aws configure")
    ),
    "no such profile": Refusal(arguments=("--ec2-profile", "nobody"), says=("nobody", "--ec2-profile")),
    "unknown region": Refusal(arguments=("--ec2-region", "eu-nowhere-1"), says=("eu-nowhere-1",)),
    "unknown type": Refusal(
        arguments=("--ec2-instance-types", "m7i.larg"), says=("m7i.larg", "m7i.large", "rule one")
    ),
    "unknown type of a rule": Refusal(
        resources="ec2_instance_type='z9.large'", says=("z9.large", "rule one")
    ),
    "more memory than there is": Refusal(resources="mem_mb=99000000", says=("mem_mb=99000000", "rule one")),
    "a resource that makes no sense": Refusal(resources="mem_mb=-5", says=("mem_mb", "-5")),
    "a misspelt resource": Refusal(
        resources="ec2_instancetype='m7i.large'", says=("did you mean ec2_instance_type?", "rule one")
    ),
    "a missing key": Refusal(arguments=("--ec2-ssh-key", "nowhere.pem"), says=("nowhere.pem",)),
    "no such image": Refusal(
        arguments=("--ec2-ami", "ami-0123456789abcdef0"), says=("ami-0123456789abcdef0",)
    ),
    "a missing requirements file": Refusal(
        arguments=("--ec2-requirements", "nowhere.txt"), says=("--ec2-requirements", "nowhere.txt")
    ),
    "a tag without a value": Refusal(arguments=("--ec2-tags", "thesis"), says=("thesis", "name=value")),
    "no permission": Refusal(
        prepare=lambda cloud: cloud.faults.deny("RunInstances"), says=("ec2:RunInstances", "rule one")
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_it_is_refused_in_one_sentence(
    case: Refusal, run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """Exit status 1, the reason in plain words, no traceback, and no machine."""
    before = ec2_cloud.machine_states()
    if case.prepare:
        case.prepare(ec2_cloud)
    resources = case.resources or "mem_mb=500"
    snakefile = f"rule one:\n    output: 'o.txt'\n    resources: {resources}\n    shell: 'touch o.txt'\n"

    run = run_workflow({"Snakefile": snakefile}, *case.arguments, env=case.env)

    assert run.returncode == 1, run.output
    assert "Traceback" not in run.output
    assert "cannot schedule" not in run.output, "a thread was left behind"
    assert "cannot be written" not in run.output, "the journal was closed before its run"
    for words in case.says:
        assert words in run.output
    assert ec2_cloud.machine_states().keys() == before.keys()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_input_that_may_not_be_read_is_refused(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """A file and a folder: one sentence each, before a machine is launched for them."""
    before = ec2_cloud.machine_states()
    rule = "rule {}:\n    input: '{}'\n    output: '{}.txt'\n    shell: 'ls {{input}} > {{output}}'\n"
    rules = [rule.format(name, name, name) for name in ("file", "folder")]
    folder = run_workflow.folder
    run_workflow.place({"Snakefile": "".join(rules), "file": "x\n", "folder/a": "x\n"})
    (folder / "file").chmod(0)
    (folder / "folder").chmod(0o300)

    run = run_workflow({}, "--keep-going", "file.txt", "folder.txt")

    (folder / "folder").chmod(0o700)
    assert run.returncode == 1, run.output
    for name in ("file", "folder"):
        assert f"you do not have the permission to read its input {folder / name}" in run.output, run.output
    assert ec2_cloud.machine_states().keys() == before.keys()


HANDED_OVER = """
rule last:
    input: "o.txt"
    output: "last.txt"
    handover: True
    shell: "cat {input} > {output}"
rule one:
    output: "o.txt"
    shell: "touch {output}"
"""


def test_handover_without_cores_is_refused_before_others_are_paid_for(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud
) -> None:
    """Snakemake ends a run at a `handover:` rule if it does not know the cores; it is told beforehand."""
    before = ec2_cloud.machine_states()

    refused = run_workflow({"Snakefile": HANDED_OVER})

    assert refused.returncode == 1, refused.output
    assert "rule last" in refused.output, refused.output
    assert "--cores" in refused.output, refused.output
    assert "cannot schedule" not in refused.output, "a thread was left behind"
    assert ec2_cloud.machine_states().keys() == before.keys()

    done = run_workflow({}, "--cores", "1")
    assert done.returncode == 0, done.output
