"""Plans that are made, stored, put in force and taken back: each once and journalled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shopfloor.ros.commands import Reason, Refused
from shopfloor.scheduling.checker import check
from shopfloor.scheduling.decoder import Decoder
from shopfloor.scheduling.floor import PlanState, StoredPlan
from shopfloor.scheduling.journal import EventKind
from shopfloor.scheduling.model import Base, Model
from shopfloor.scheduling.problem import changed_fraction
from shopfloor.scheduling.repair import repair
from shopfloor.scheduling.steps import Step, Steps


class PlanCommands(Steps):
    """Compare-and-swap on the version in force."""

    def commit(self, version: int, sha256: str, expected_version: int, **ids: Any) -> None:
        """Put a draft in force, if the plan in force is still the expected one."""
        plan = self.plan(version)
        self._same_version(expected_version)
        if sha256 and sha256 != plan.sha256:
            raise Refused(Reason.VERSION_MISMATCH, f"plan {version} has another hash")
        if plan.state is not PlanState.DRAFT:
            text = f"plan {version} is {plan.state.name}, not a draft"
            raise Refused(Reason.INVALID_TRANSITION, text)
        self.step(lambda step: self.put_in_force(step, plan, **ids))

    def put_in_force(
        self,
        step: Step,
        plan: StoredPlan,
        before: PlanState = PlanState.SUPERSEDED,
        **ids: Any,
    ) -> None:
        """Commit in a step that is under way. Raises Refused where facts forbid the plan by now."""
        broken = self.floor.is_current(plan)
        if broken:
            raise Refused(Reason.INVALID_TRANSITION, f"out of date: {broken[0].text}"[:254])
        committed = replace(plan, state=PlanState.COMMITTED)
        self.floor.put_in_force(step.transaction, committed, before)
        state = self.floor.state

        def apply() -> None:
            state.in_force = committed
            state.last_version = max(state.last_version, committed.version)

        step.applied.insert(0, apply)
        text = f"plan {plan.version} by {plan.stage}, J {plan.score.objective:.4f}"
        self.note(step, EventKind.PLAN_COMMITTED, text, plan_version=plan.version, **ids)

    def rollback(self, to_version: int, expected_version: int, **ids: Any) -> int:
        """An earlier plan in force again, less what has run since; returns its new version."""
        plan = self.plan(to_version)
        self._same_version(expected_version)
        made = self.repaired(plan)

        def act(step: Step) -> None:
            self.put_in_force(step, made, PlanState.ROLLED_BACK)
            text = f"back to plan {to_version} as {made.version}"
            self.note(step, EventKind.PLAN_ROLLED_BACK, text, plan_version=made.version, **ids)

        self.step(act)
        return made.version

    def repaired(self, plan: StoredPlan, freeze_ms: int = 0) -> StoredPlan:
        """The plan made valid for now with as few changes as possible; not stored yet."""
        problem = self.problem(freeze_ms)
        decoder = Decoder(Model(problem, Base(plan.assignments)))
        schedule = decoder.decode(repair(decoder, plan.assignments))
        assignments = decoder.assignments(schedule)
        broken = check(problem, assignments)
        if broken:
            raise Refused(Reason.INVALID_TRANSITION, f"cannot be repaired: {broken[0].text}"[:254])
        return StoredPlan(
            version=self.floor.state.last_version + 1,
            base_version=plan.version,
            state=PlanState.DRAFT,
            stamp_ns=self._now_ns(),
            problem=problem,
            assignments=assignments,
            score=decoder.model.objective.score(
                assignments, changed_fraction(plan.assignments, assignments)
            ),
            stage="repair",
        )

    def store(
        self, plan: StoredPlan, *, commit: bool, approval: str = "", **ids: Any
    ) -> StoredPlan:
        """Store a plan under the next version; commit it, or say why a person has to."""
        floor = self.floor
        plan = replace(plan, version=floor.state.last_version + 1, state=PlanState.DRAFT)
        stored = [plan]

        def act(step: Step) -> None:
            floor.put_plan(step.transaction, plan)
            text = f"plan {plan.version} by {plan.stage}, J {plan.score.objective:.4f}"
            self.note(step, EventKind.PLAN_MADE, text, plan_version=plan.version, **ids)
            step.applied.insert(0, lambda: setattr(floor.state, "last_version", plan.version))
            if commit:
                try:
                    self.put_in_force(step, plan, **ids)
                    stored[0] = replace(plan, state=PlanState.COMMITTED)
                except Refused as refusal:
                    self.note(step, EventKind.PLAN_REJECTED, str(refusal),
                              plan_version=plan.version, **ids)  # fmt: skip
            elif approval:
                self.note(step, EventKind.APPROVAL_NEEDED, approval,
                          plan_version=plan.version, **ids)  # fmt: skip

        self.step(act)
        return stored[0]

    def _same_version(self, expected: int) -> None:
        now = self.floor.version_in_force
        if expected != now:
            text = f"plan {now} is in force, expected {expected}"
            raise Refused(Reason.VERSION_MISMATCH, text)
