"""Gets a machine for a job: what to launch, in which order, until EC2 gives one.

EC2 may have no such machine now: then another zone or type is tried, and what had none is
remembered for a few minutes. The account's limit may be reached: then one of the run's machines
has to end first. EC2 may not answer: then the same request is sent again, and the same token never
gives two machines. None of this fails a job before `capacity_timeout_s`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from snakemake_executor_ec2 import tags
from snakemake_executor_ec2.cancellation import CancelToken
from snakemake_executor_ec2.errors import (
    CapacityError,
    CredentialsExpired,
    PermissionDenied,
    QuotaError,
    ThrottledError,
)
from snakemake_executor_ec2.machines import user_data
from snakemake_executor_ec2.machines.budget import estimated_usd
from snakemake_executor_ec2.machines.capacity_cache import KEEP_S
from snakemake_executor_ec2.machines.feasibility import Feasibility
from snakemake_executor_ec2.machines.launch_state import LaunchState, Next, Round
from snakemake_executor_ec2.model import (
    JobPlan,
    KeyPair,
    LaunchSpec,
    Machine,
    Offer,
    Requirements,
    SpotUse,
)
from snakemake_executor_ec2.ports import Clock, LaunchRecords
from snakemake_executor_ec2.report import messages
from snakemake_executor_ec2.sizing import disk, expected
from snakemake_executor_ec2.sizing.cost import cost_usd
from snakemake_executor_ec2.sizing.lease import lease_s
from snakemake_executor_ec2.sizing.quotas import PROBE_S, Quota, quota_of
from snakemake_executor_ec2.sizing.reuse import Used, fits
from snakemake_executor_ec2.sizing.select import best, offers
from snakemake_executor_ec2.timing import growing_s

TYPES_PER_ROUND = 10
"""Types to try at first. Every round in which EC2 had none allows as many more: the price
rises only if waiting has not helped."""
STAGING_MARGIN_S = 2 * 3600
"""How much longer than its job's `runtime` a machine may live, for software and files."""
BUDGET_PAUSE_S = 5.0
"""Between checks of the budget while machines run; the end of one of them ends the pause."""

_SPOT_ROLE_ACTION = "iam:CreateServiceLinkedRole"
_FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """Turns plans into launches, for all jobs of a run: what one learns, the others know."""

    feasibility: Feasibility
    records: LaunchRecords
    clock: Clock
    run_id: str
    owner: str
    ssh_user: str
    authorized_keys: tuple[str, ...]
    user_tags: Mapping[str, str]
    lifetime_s: int
    tell: Callable[[str], None]
    """Prints a line for the user."""
    instance_profile: str | None = None
    folder: str = ""
    """The computer and folder that the machines' tags name."""
    claim_s: int = 12 * 3600
    """After this long, at most, a machine ends itself if no agent was installed to keep a lease."""
    lease_usd: float | None = None
    """What it may cost until then."""
    capacity_timeout_s: float
    """How long a job waits for a machine, not counting the time while our own machines use up the
    account's limit."""
    may_launch: Callable[[], None] = lambda: None
    """Raises an Ec2ExecutorError if another machine would be of no use."""
    make_room: Callable[[JobPlan], bool] = lambda _: False
    """Ends machines that are idle, when a limit is in the way of a job's; False: there are none."""
    pause: Callable[[CancelToken, float], None] = CancelToken.wait
    """Sleeps until the job is cancelled; tests let their own time pass."""
    _state: LaunchState = field(init=False)

    def __post_init__(self) -> None:
        # With a short timeout, a lack of capacity is asked about again in time.
        keep_s = min(KEEP_S, self.capacity_timeout_s / 10)
        feasible = self.feasibility
        state = LaunchState(self.clock, keep_s, feasible.budget, feasible.limiter, self.tell)
        object.__setattr__(self, "_state", state)

    def launch(
        self,
        plan: JobPlan,
        host_key: KeyPair,
        machine_no: int,
        cancel: CancelToken,
        *,
        reclaimed: int = 0,
        unless: Callable[[float], bool] | None = None,
    ) -> Machine | None:
        """See `ports.Launches`."""
        came_free = unless or partial(self._none_comes_free, cancel)
        cancel.on_cancel(self._state.limiter.wake)
        waiting_since: float | None = None
        number, codes = 0, set[str]()
        while True:
            cancel.check()
            if came_free(0.0):
                return None
            self.may_launch()
            wanted = self.wanted(plan.requirements, reclaimed)
            tried = Round(plan, host_key, machine_no, number, cancel, codes)
            machine = self._try_all(tried, wanted)
            if machine is not None:
                return machine
            if self._waits_for_own_machines(tried, wanted):
                waiting_since = None
                continue
            self._check_possible(tried, wanted)
            now = self.clock.monotonic()
            waiting_since = now if waiting_since is None else waiting_since
            left_s = waiting_since + self.capacity_timeout_s - now
            if left_s <= 0:
                raise CapacityError(messages.nowhere(codes, tried.quota, self.capacity_timeout_s))
            if tried.quota is not None:
                self._tell_quota(tried.quota)
            else:
                text = messages.waiting_for_capacity(plan, self.capacity_timeout_s)
                self._state.tell_once(text, about=f"capacity {plan.rule}")
            if came_free(min(left_s, growing_s(number, _FIRST_PAUSE_S, _LONGEST_PAUSE_S))):
                return None
            number += 1

    def launch_now(self, plan: JobPlan, host_key: KeyPair, cancel: CancelToken) -> Machine | None:
        """See `ports.Launches`."""
        self.may_launch()
        tried = Round(plan, host_key, 0, 0, cancel, set())
        return self._try_all(tried, self.wanted(plan.requirements, 0))

    def _none_comes_free(self, cancel: CancelToken, seconds: float) -> bool:
        if seconds > 0:
            self.pause(cancel, seconds)
        return False

    def _waits_for_own_machines(self, tried: Round, wanted: Requirements) -> bool:
        """If the budget or the account's limit was in the way: wait until a machine of the run has ended, or
        is ended now because it is idle. False: that would not help."""
        limited = tried.beyond_budget_usd is not None or tried.quota is not None
        # Asked with what an idle machine is taken by: one that is kept for the job has to suit it.
        if limited and self.make_room(replace(tried.plan, requirements=wanted)):
            return True
        if tried.beyond_budget_usd is not None:
            text = self._state.wait_for_budget(tried.plan, tried.beyond_budget_usd)
            self._state.tell_once(text, about="budget")
            self._state.limiter.wait(tried.cancel, BUDGET_PAUSE_S)
            return True
        if tried.quota is not None and self._state.limiter.in_use(tried.quota) > 0:
            # One of our own machines will end. Until then, that is no reason to give up.
            self._tell_quota(tried.quota)
            self._state.limiter.wait(tried.cancel, PROBE_S)
            return True
        return False

    def adopted(self, machine: Machine, requirements: Requirements) -> None:
        """See `ports.Launches`."""
        needed_usd = estimated_usd(machine.price, machine, requirements.runtime_min)
        self._state.budget.adopted(machine.id, needed_usd)
        with self._state.lock:
            if machine.id in self._state.holding:
                return
            self._state.holding.add(machine.id)
        if instance_type := self.feasibility.catalogue.named(machine.instance_type):
            self._state.limiter.count(instance_type, machine.market)

    def used(self, machine: Machine, launched_for: Requirements, *, rule: str, free_mib: int) -> Used | None:
        """See `ports.Launches`."""
        instance_type = self.feasibility.catalogue.named(machine.instance_type)
        if instance_type is None:
            return None
        return Used(
            machine=machine,
            type=instance_type,
            launched_for=launched_for,
            rule=rule,
            free_mib=free_mib,
            ends_at=machine.launched_at + self.lifetime_of(launched_for),
        )

    def suits(self, used: Used, requirements: Requirements) -> bool:
        """See `ports.Launches`."""
        return self._reuse(used, requirements, self._state.budget.next_job_fits)

    def reuse(self, used: Used, requirements: Requirements) -> bool:
        """See `ports.Launches`."""
        return self._reuse(used, requirements, self._state.budget.next_job)

    def _reuse(self, used: Used, wanted: Requirements, affordable: Callable[[str, float], bool]) -> bool:
        fresh, machine = best(self.feasibility.catalogue, wanted), used.machine
        needed_usd = estimated_usd(machine.price, machine, wanted.runtime_min)
        return fits(used, wanted, fresh, self.clock.now()) and affordable(machine.id, needed_usd)

    def idle(self, machine: Machine, waiting_s: float) -> None:
        """See `ports.Launches`."""
        self._state.budget.idle(machine.id, cost_usd(machine, waiting_s) or 0.0)
        self._state.limiter.wake()

    def released(self, machine: Machine, *, no_capacity: bool = False) -> None:
        """A machine that `launch` gave or `adopted` took has ended; saying it twice is fine.
        `no_capacity`: EC2 has taken it back."""
        if no_capacity:
            self._state.capacity.note_reclaimed(machine)
        self._state.budget.released(machine.id)
        with self._state.lock:
            if machine.id not in self._state.holding:
                return
            self._state.holding.remove(machine.id)
        if instance_type := self.feasibility.catalogue.named(machine.instance_type):
            self._state.limiter.release(instance_type, machine.market)

    def lifetime_of(self, requirements: Requirements) -> int:
        """Seconds after which the machine ends whatever happens; a rule's runtime shortens it, and
        leaves room for a lease: results may have to wait for a laptop that sleeps."""
        if requirements.runtime_min is None:
            return self.lifetime_s
        return min(self.lifetime_s, requirements.runtime_min * 60 + STAGING_MARGIN_S + self.claim_s)

    # --- one round over the offers ------------------------------------------------------------

    def _try_all(self, tried: Round, wanted: Requirements) -> Machine | None:
        """A machine of the first offer that EC2 has one of; what it said otherwise is in `tried`."""
        every = offers(self.feasibility.catalogue, wanted)
        for offer in self._state.some(every, TYPES_PER_ROUND * (tried.number + 1)):
            needed_usd = self.feasibility.estimated_usd(offer, wanted)
            if not self._state.budget.fits(needed_usd):
                # Whatever comes after it is dearer, or spot that is taken back more often.
                tried.beyond_budget_usd = needed_usd
                return None
            for zone in offer.zones:
                if self._state.is_empty(offer, zone):
                    continue
                launch = partial(self._try, tried, offer, zone)
                answer = self.feasibility.from_image_that_is_there(tried.plan.requirements, launch)
                if isinstance(answer, Machine):
                    return answer
                if answer is Next.OFFER:
                    break
            if self._state.no_spot and wanted.spot is SpotUse.PREFER:
                return self._try_all(tried, self.wanted(wanted, 0))
        return None

    def _try(self, tried: Round, offer: Offer, zone: str) -> Machine | Next:
        """A machine, or where to ask next. Why not here is noted in `tried`."""
        limiter, row, market = self._state.limiter, offer.instance_type, offer.market
        if not limiter.reserve(row, market):
            tried.quota = tried.quota or quota_of(row.name, market)
            return Next.OFFER
        spec = self._spec(tried, offer, zone)
        try:
            machine = self._launch_within_budget(tried, spec)
            if machine is None:
                limiter.release(row, market)
                return Next.OFFER
        except QuotaError as error:
            limiter.refused(row, market)
            tried.codes.add(error.code)
            tried.quota = tried.quota or quota_of(row.name, market)
            return Next.OFFER
        except CapacityError as error:
            limiter.release(row, market)
            self._state.capacity.note(spec)
            tried.codes.add(error.code)
            self.tell(messages.no_capacity(spec, error))
            return Next.ZONE
        except PermissionDenied as error:
            limiter.release(row, market)
            if error.action != _SPOT_ROLE_ACTION or tried.plan.requirements.spot is SpotUse.ONLY:
                raise
            self._state.no_spot = True
            self._state.tell_once(messages.no_spot(error), about="no spot")
            return Next.OFFER
        except BaseException:
            limiter.release(row, market)
            raise
        limiter.launched(row, market)
        with self._state.lock:
            self._state.holding.add(machine.id)
        return machine

    def _launch_within_budget(self, tried: Round, spec: LaunchSpec) -> Machine | None:
        """Looked at again: others have launched while this job waited for its turn."""
        needed_usd = self.feasibility.estimated_usd(spec.offer, tried.plan.requirements)
        with self._state.budget.launching(needed_usd) as launched:
            if launched is None:
                tried.beyond_budget_usd = needed_usd
                return None
            machine = self._launch(tried.plan.key, spec, tried.cancel)
            launched(machine.id)
        return machine

    def _launch(self, job_key: str, spec: LaunchSpec, cancel: CancelToken) -> Machine:
        """One machine for a token. While EC2 does not answer, or asks to wait, the very same again:
        it may have started the machine, and for another spec it would start another one."""
        try:
            return self._asked_until_answered(job_key, spec, cancel)
        except BaseException:
            self.feasibility.cloud.give_up(spec)
            raise

    def _asked_until_answered(self, job_key: str, spec: LaunchSpec, cancel: CancelToken) -> Machine:
        started = self.clock.monotonic()
        failures = 0
        while True:
            try:
                return self._recorded_launch(job_key, spec, cancel)
            except ThrottledError as error:
                if self.clock.monotonic() - started >= self.capacity_timeout_s:
                    raise
                self._state.tell_once(messages.throttled(error), about="throttled")
            except CredentialsExpired as error:
                # A night may pass until the user logs in again; running jobs need no credentials.
                if self.clock.monotonic() - started >= self.claim_s:
                    raise
                self._state.tell_once(messages.expired(error), about="expired")
            self.pause(cancel, growing_s(failures, _FIRST_PAUSE_S, _LONGEST_PAUSE_S))
            failures += 1

    def _recorded_launch(self, job_key: str, spec: LaunchSpec, cancel: CancelToken) -> Machine:
        """A launch that cannot be recorded beforehand is not made: after a crash, its machine would be
        lost."""
        self.records.intend(job_key, spec)
        cloud = self.feasibility.cloud
        machine = cloud.launch(spec, cancel)
        try:
            self.records.launched(spec.token, machine)
        except BaseException:  # nobody would know of it
            cloud.terminate([machine.id])
            raise
        return machine

    def _spec(self, tried: Round, offer: Offer, zone: str) -> LaunchSpec:
        plan, row = tried.plan, offer.instance_type
        image = self.feasibility.image_for(plan.requirements)
        lifetime_s = self.lifetime_of(plan.requirements)
        claim_s = round(lease_s(self.claim_s, self.lease_usd, offer.price, plan.requirements))
        return LaunchSpec(
            token=tags.client_token(
                self.run_id, plan.key, str(tried.machine_no), str(tried.number), offer.market, row.name, zone
            ),
            offer=offer,
            zone=zone,
            image=image,
            **vars(disk.volume(plan.requirements, image, offer)),
            user_data=user_data.cloud_config(
                host_key=tried.host_key,
                authorized_keys=self.authorized_keys,
                lifetime_s=lifetime_s,
                claim_s=claim_s,
                ssh_user=self.ssh_user,
            ),
            tags=tags.tags(
                run_id=self.run_id,
                rule=plan.rule,
                owner=self.owner,
                expires_at=self.clock.now() + lifetime_s,
                folder=self.folder,
                extra=self.user_tags,
            ),
            instance_profile=self.instance_profile,
            claim_s=claim_s,
        )

    # --- limits -------------------------------------------------------------------------------

    def wanted(self, requirements: Requirements, reclaimed: int) -> Requirements:
        """See `ports.Launches`."""
        if requirements.spot is SpotUse.PREFER and (self._state.no_spot or reclaimed >= expected.ATTEMPTS):
            return replace(requirements, spot=SpotUse.NEVER)
        return requirements

    def _check_possible(self, tried: Round, wanted: Requirements) -> None:
        """Raise QuotaError if waiting can't help: no machine of the run uses the limit, and it is below
        the smallest machine that fits."""
        if tried.quota is not None:
            self.feasibility.forget_quota(tried.quota)
            self.feasibility.check_quota(wanted, best(self.feasibility.catalogue, wanted))

    def _tell_quota(self, quota: Quota) -> None:
        vcpus = self.feasibility.quota_vcpus(quota)
        self._state.tell_once(messages.waiting_for_quota(quota, vcpus), about=quota.code)
