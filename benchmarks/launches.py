"""How fast machines are asked for: `python -m benchmarks.launches`.

1,000 jobs that want the same machine ask for it at once, before an EC2 that gives calls of RunInstances at
AWS's pace (five, then two a second; 1,000 machines, then two a second), answers each after 1.5 s, and shows
machines a second later. All are to be launched within 10 s, each once. Beside it: the same without calls for
several machines. The short form is 40 jobs, and fails for no time.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from unittest.mock import patch

from benchmarks import sizes
from snakemake_executor_ec2 import tags
from snakemake_executor_ec2.aws import together
from snakemake_executor_ec2.aws.network import Caller, Subnet
from snakemake_executor_ec2.aws.run_instances import Launcher
from snakemake_executor_ec2.aws.security_group import SecurityGroup
from snakemake_executor_ec2.machines import user_data
from snakemake_executor_ec2.model import Arch, Image, LaunchSpec, Market, Offer
from snakemake_executor_ec2.ssh.keys import new_key_pair
from snakemake_executor_ec2.timing import SystemClock
from tests.fakes.cloud import TYPES
from tests.fakes.ec2_api import FakeClients, FakeEc2Api

AT_MOST_S = 10.0
_RUN = "run-1"


class Took(NamedTuple):
    """What launching took."""

    seconds: float
    calls: int
    most: int
    """Machines of one call."""
    refused: int


def main() -> None:
    """Print both; fail if it took longer than it may."""
    options = sizes(__doc__, machines=(1000, 40), alone=(30, 6))
    took = _launch(options.machines)
    with patch.object(together, "MOST", 1):
        alone = _launch(options.alone)
    print(
        f"{options.machines} machines in {took.seconds:.1f} s (at most {AT_MOST_S:.0f} s), with {took.calls} "
        f"calls for up to {took.most}, of which AWS refused {took.refused} for coming too fast; one machine "
        f"a call: {options.alone} machines in {alone.seconds:.1f} s, which would be "
        f"{alone.seconds / options.alone * options.machines:.0f} s for {options.machines}"
    )
    sys.exit(took.seconds > AT_MOST_S and not options.short)


def _launch(count: int) -> Took:
    clock = SystemClock()
    api = FakeEc2Api(clock)
    api.takes_s = {"run_instances": 1.5}
    clients = FakeClients(api).as_clients
    group = SecurityGroup(clients, run_id=_RUN, ssh_port=22, clock=clock, warn=sys.exit)
    caller = Caller(ssh_from="203.0.113.7/32", endpoint=lambda: "")
    launcher = Launcher(clients, run_id=_RUN, group=group, caller=caller, clock=clock)
    subnets = [Subnet(id="subnet-1", vpc_id="vpc-1", zone="a", zone_id="a", public=True)]
    specs = [_spec(number, _USER_DATA) for number in range(count)]
    began = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        machines = {each.id for each in pool.map(lambda spec: launcher.launch(spec, subnets), specs)}
    seconds = time.monotonic() - began
    if machines != {*api.alive} or len(machines) != count:
        sys.exit(f"{len(machines)} machines for {count} jobs, and {len(api.alive)} are there")
    calls = api.called("run_instances")
    answered = {each["ClientToken"] for each in calls}
    return Took(seconds, len(calls), max(each["MaxCount"] for each in calls), len(calls) - len(answered))


_USER_DATA = user_data.cloud_config(
    host_key=new_key_pair(), authorized_keys=(), lifetime_s=3600, claim_s=3600, ssh_user="ec2-user"
)


def _spec(number: int, data: str) -> LaunchSpec:
    return LaunchSpec(
        token=tags.client_token(_RUN, str(number)),
        offer=Offer(instance_type=TYPES[0], market=Market.ON_DEMAND, zones=("a",), price=None),
        zone="a",
        image=Image(ami="ami-1", name="Linux", arch=Arch.X86_64, root_device="/dev/xvda", root_gib=8),
        disk_gib=20,
        user_data=data,
        tags=tags.tags(run_id=_RUN, rule="one", owner="me", expires_at=time.time() + number),
    )


if __name__ == "__main__":
    main()
