"""Rules that bring their software: `--sdm conda`, `--sdm apptainer`, and what is refused.

Neither conda-forge nor a registry of containers is in reach here. What the executor does is real
(noticing, installing where it is missing, PATH, what travels), and so is Snakemake; the programs
at the end of it (an installer, conda, a distribution's package, apptainer) are scripts.
"""

from __future__ import annotations

import pytest

from snakemake_executor_ec2.local.cloud import EmbeddedCloud
from snakemake_executor_ec2.testing import WorkflowRunner

SNAKEFILE = """
rule with_conda:
    output: "conda.txt"
    conda: "envs/tool.yaml"
    shell: "(cat $CONDA_PREFIX/spec $CONDA_PREFIX/deployed; command -v conda; python --version) > {output}"

rule with_apptainer:
    output: "apptainer.txt"
    container: "images/tool.sif"
    shell: "(echo $IN_CONTAINER; cat images/tool.sif) > {output}"

rule plain:
    output: "plain.txt"
    shell: "! command -v conda && ! command -v apptainer && touch {output}"
"""

# Stands in for Miniforge's installer and for a distribution with an apptainer.
SETUP = r"""
program() { sudo tee /usr/local/bin/$1 > /dev/null; sudo chmod 755 /usr/local/bin/$1; }

program curl << 'CURL'
#!/bin/bash
case "${@: -1}" in
    */Miniforge3-Linux-$(uname -m).sh) ;;
    *) exit 22 ;;
esac
while [ "$1" != --output ]; do shift; done
cat > "$2" << 'INSTALLER'
prefix=${@: -1}
mkdir -p $prefix/bin $prefix/condabin
echo 'export CONDA_PREFIX=$1' > $prefix/bin/activate
cat > $prefix/condabin/conda << 'CONDA'
#!/bin/bash
case "$*" in
    --version) echo conda 25.9.1 ;;
    "info --json") echo '{"conda_prefix": "'$(dirname $(dirname $0))'", "platform": "linux-64"}' ;;
    "clean -y --tarballs") ;;
    "config --get"*) echo '{"get": {"channel_priority": "strict"}}' ;;
    "env create"*)
        while [ $# -gt 0 ]; do
            case "$1" in --file) file=$2 ;; --prefix) prefix=$2 ;; esac
            shift
        done
        mkdir -p $prefix/conda-meta && touch $prefix/conda-meta/history && cp $file $prefix/spec ;;
    *) echo "stub conda: $*" >&2; exit 2 ;;
esac
CONDA
chmod 755 $prefix/condabin/conda
INSTALLER
CURL

program dnf << 'DNF'
#!/bin/bash
[ "$*" = "-y install apptainer" ] || exit 1
cat > /usr/local/bin/apptainer << 'APPTAINER'
#!/bin/bash
[ "$1" = --version ] && echo "apptainer version 1.4.1" && exit
while [ "$1" != -c ]; do last=$1; shift; done
export IN_CONTAINER=yes
exec $last -c "$2"
APPTAINER
chmod 755 /usr/local/bin/apptainer
DNF
"""
FILES = {
    "Snakefile": SNAKEFILE,
    "setup.sh": SETUP,
    "envs/tool.yaml": "dependencies: [tool=1.2]\n",
    "envs/tool.post-deploy.sh": "echo deployed > $CONDA_PREFIX/deployed\n",
    "images/tool.sif": "an image\n",
}


def test_software_is_deployed_on_the_machine(run_workflow: WorkflowRunner) -> None:
    """conda and apptainer are installed where a job's rule needs them, and nowhere else; environment
    files, scripts and images that rules name travel, and Snakemake deploys with them there."""
    # No local rule, such as one that only collects: for those Snakemake wants conda here, too.
    targets = ("conda.txt", "apptainer.txt", "plain.txt")

    run = run_workflow(FILES, *targets, "--ec2-setup", "setup.sh", "--sdm", "conda", "apptainer")

    assert run.returncode == 0, run.output
    spec, deployed, conda, python = (run.folder / "conda.txt").read_text().splitlines()
    assert (spec, deployed) == ("dependencies: [tool=1.2]", "deployed")
    assert conda == "/home/ec2-user/.snakemake-ec2/conda/condabin/conda"
    assert python.startswith("Python 3.")
    assert (run.folder / "apptainer.txt").read_text() == "yes\nan image\n"
    assert not (run.folder / ".snakemake/conda").exists() or not any(
        (run.folder / ".snakemake/conda").iterdir()
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--sdm", "env-modules"), "--sdm env-modules needs a cluster's module system"),
        (("--immediate-submit", "--notemp"), "--immediate-submit leaves it to a cluster's queue"),
    ],
)
def test_what_a_cluster_has_is_refused(
    run_workflow: WorkflowRunner, ec2_cloud: EmbeddedCloud, options: tuple[str, ...], why: str
) -> None:
    """What EC2 has nothing for ends with one sentence before anything is launched."""
    ec2_cloud.forget_calls()
    refused = run_workflow(FILES, *options)

    assert refused.returncode == 1
    assert why in refused.output
    assert not ec2_cloud.calls("RunInstances")
