"""scheduler: plans in milliseconds, better ones in seconds, and a journal that survives a crash."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
from pathlib import Path
from typing import Any

from shopfloor_msgs.msg import (
    Plan,
    Provenance,
    StageTime,
)

from shopfloor.ros.command_service import Commands as ServiceCommands
from shopfloor.ros.commands import Refused
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.main import run_node
from shopfloor.ros.node import NodeError, ShopfloorNode
from shopfloor.ros.parameters import configuration_sha256
from shopfloor.ros.paths import parameter_file, state_folder
from shopfloor.scheduling import messages
from shopfloor.scheduling.commands import Commands
from shopfloor.scheduling.dispatching import Dispatcher, Progress, SimulatedMachines
from shopfloor.scheduling.explain import Change, diff
from shopfloor.scheduling.floor import Dispatch, Floor, PlanState, StoredPlan
from shopfloor.scheduling.journal import Event, Journal, JournalError
from shopfloor.scheduling.node_execute_action import ExecuteAction
from shopfloor.scheduling.node_plan_action import PlanAction
from shopfloor.scheduling.node_reactions import Reactions
from shopfloor.scheduling.node_services import Services
from shopfloor.scheduling.parameters import SchedulerParameters
from shopfloor.scheduling.planning import Request
from shopfloor.scheduling.problem import ProblemError, Weights
from shopfloor.scheduling.problem_file import load_problem
from shopfloor.scheduling.solver import Solution

_TICK_S = 0.1
_CALLER = "scheduler"


class SchedulerNode(ShopfloorNode[SchedulerParameters]):
    """Converts, publishes and reacts; what it knows is in `floor`, what it does in `commands`."""

    PARAMETERS = SchedulerParameters

    def __init__(self, name: str = "scheduler", **node_arguments: Any) -> None:
        self._journal: Journal | None = None
        self.dispatcher: Dispatcher | None = None
        super().__init__(name, **node_arguments)

    # Lifecycle --------------------------------------------------------------------------------

    def setup(self) -> None:
        """Read the journal, settle what was in flight, and offer the services."""
        # CP-SAT takes half a second to load: now, and not when a plan is asked for
        importlib.import_module("shopfloor.scheduling.conflicts")
        params = self.params
        self._engine = f"shopfloor, ortools {importlib.metadata.version('ortools')}"
        self._configuration = configuration_sha256(params)
        self._repair_because = ""
        folder = state_folder() / self.get_fully_qualified_name().strip("/").replace("/", ".")
        path = Path(params.journal) if params.journal else folder / "journal.sqlite"
        try:
            self._journal = Journal(path)
            self.floor = Floor(self._journal, round(params.unknown_stop_s * 1000))
            self._plans = self.publisher("plan")
            self._events = self.publisher("plan_events")
            self.commands = Commands(self.floor, self.now_ns, self._on_event)
            self._load_file()
        except (JournalError, ProblemError) as error:
            raise NodeError(str(error)) from error
        self.service_commands = ServiceCommands(self, path.parent)
        if params.machines == "simulated":
            machines = SimulatedMachines(self.commands.now_ms, params.simulated_speed)
            self.dispatcher = Dispatcher(self.commands, machines, self.now_ns)
            for dispatch in self.dispatcher.recover():
                self.fault("in doubt", "/".join(dispatch.assignment.key))
        Services(self)
        self._plan_action = PlanAction(self)
        self._execute_action = ExecuteAction(self)
        self.reactions = Reactions(self)
        self.steady_timer(_TICK_S, self._tick)
        self.diagnostics.add("plan", self._plan_status)
        self.diagnostics.add("floor", self._floor_status)

    def start(self) -> None:
        """Say what is in force, and plan where there is nothing."""
        plan = self.floor.in_force
        if plan is not None:
            self._publish(plan)
        elif self.params.first_plan_s and self.floor.state.jobs:
            request = self._plan_action.request(
                self.commands.problem(), self.params.first_plan_s, None, 0.0, stay=False
            )
            self._plan_action.own_request(request, commit=True, reason="first plan")

    def teardown(self) -> None:
        """Close the journal; what runs at machines runs on."""
        for check in ("plan", "floor"):
            self.diagnostics.remove(check)
        for name in ("_plan_action", "_execute_action", "service_commands"):
            part = self.__dict__.pop(name, None)
            if part is not None:
                part.close()
        self.dispatcher = None
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def parameters_changed(self, old: SchedulerParameters, new: SchedulerParameters) -> None:
        """A run of FAIL verdicts may be as long as it says now."""
        if self._journal is not None:
            self.reactions.set_fail_run(new.fail_run)

    @property
    def weights(self) -> Weights:
        """Of the problem file, else the usual ones."""
        frame = self.floor.state.frame
        return frame.weights if frame is not None else Weights()

    def _load_file(self) -> None:
        if self.params.problem_file and self.floor.state.frame is None:
            now = -(-self.now_ns() // 1_000_000)
            self.commands.load(load_problem(parameter_file(self.params.problem_file), now), _CALLER)

    # Plans ------------------------------------------------------------------------------------

    def stored_plan(self, request: Request, solution: Solution) -> StoredPlan:
        """The solution as a plan that is not stored yet."""
        best = solution.best
        assert best is not None
        return StoredPlan(
            version=0,
            base_version=request.base_version,
            state=PlanState.UNKNOWN,
            stamp_ns=self.now_ns(),
            problem=request.problem,
            assignments=best.assignments,
            score=best.score,
            stage=best.stage,
            baseline_rule=solution.baseline_rule,
            baseline_score=solution.baseline,
            bound=solution.bound,
            solve_ms=sum(solution.stages_ms.values()),
        )

    def store_plan(self, plan: StoredPlan, commit: bool, **ids: Any) -> tuple[StoredPlan, str]:
        """Store it; commit it where that is asked for and policy allows. The text says if not."""
        params = self.params
        changed = plan.score.changed_fraction
        text = ""
        if commit and params.approval == "always":
            text = "every plan waits for a person to commit it"
        elif commit and params.approval == "large" and changed > params.approval_above_changed:
            text = f"{100 * changed:.0f} % of the operations change: waits for a person"
        stored = self.commands.store(plan, commit=commit and not text, approval=text, **ids)
        if stored.state is PlanState.COMMITTED:
            self.publish_in_force()
        elif commit and not text:
            text = "made, but out of date by now: not committed"
        return stored, text

    def own_plan(self, request: Request, solution: Solution, commit: bool, reason: str) -> None:
        """The end of a request on the scheduler's own account."""
        if request.superseded:
            return
        if solution.best is None:
            why = [c.text for c in (*solution.conflicts, *solution.violations)[:3]]
            self.fault("no valid plan", f"{reason}: {'; '.join(why)}")
            return
        present = self.floor.in_force
        nothing_better = (
            present is not None
            and present.version == request.base_version
            and solution.best.stage == "repair"
            and not self.floor.is_current(present)
        )
        if nothing_better:
            return
        self.store_plan(self.stored_plan(request, solution), commit, caller=_CALLER)

    def plan_message(
        self, plan: StoredPlan, solution: Solution | None, changes: list[Change]
    ) -> Any:
        """The plan as a message, with where it came from."""
        message = messages.plan_message(plan, self.params.plant, changes)
        stages = solution.stages_ms if solution is not None else {}
        message.provenance = Provenance(
            engine=self._engine,
            configuration_sha256=self._configuration,
            host=self.host,
            node=self.get_fully_qualified_name(),
            board_temperature_celsius=math.nan,
            stages=[StageTime(name=k[:32], duration_ms=v) for k, v in stages.items()],
        )
        return message

    def publish_in_force(self) -> None:
        """Tell everybody, and whoever comes later."""
        plan = self.floor.in_force
        if plan is not None:
            self._publish(plan)

    def _publish(self, plan: StoredPlan) -> None:
        before = self.floor.plan(plan.base_version) if plan.base_version else None
        changes = diff(before.assignments, plan.assignments) if before is not None else []
        message: Plan = self.plan_message(plan, None, changes)
        self._plans.publish(message)

    def _on_event(self, event: Event) -> None:
        self._events.publish(messages.event_message(event, self.params.plant))

    # Events -----------------------------------------------------------------------------------

    def repair(self, because: str) -> None:
        """A valid plan at once, and a better one from the next tick on."""
        plan = self.floor.in_force
        if plan is None:
            return
        try:
            made = self.commands.repaired(plan, round(self.params.freeze_horizon_s * 1000))
        except Refused as refusal:
            self.fault("no repair", f"{because}: {refusal}")
        else:
            self.store_plan(made, True, caller=_CALLER)
        self._repair_because = because

    def _tick(self) -> None:
        """Improve what was only repaired."""
        if not self._repair_because or not self.is_active or self._plan_action.busy:
            return
        because, self._repair_because = self._repair_because, ""
        params = self.params
        plan = self.floor.in_force
        problem = self.commands.problem(round(params.freeze_horizon_s * 1000))
        request = self._plan_action.request(
            problem, params.repair_s, plan, params.stability_weight, stay=True
        )
        self._plan_action.own_request(request, commit=True, reason=because)

    def ran(self, dispatch: Dispatch, progress: Progress) -> None:
        """An operation has ended; one that failed is planned again."""
        if progress.outcome != "done":
            self.repair(f"{'/'.join(dispatch.assignment.key)} {progress.outcome}")

    # Diagnostics --------------------------------------------------------------------------------

    def _plan_status(self) -> Status:
        plan = self.floor.in_force
        if plan is None:
            return Status(Level.STALE, "no plan in force")
        values: dict[str, object] = {
            "version": plan.version, "by": plan.stage, "J": round(plan.score.objective, 5),
            "best rule": plan.baseline_rule, "late jobs": plan.score.late_jobs,
            "planning": self._plan_action.busy, "solve ms": round(plan.solve_ms, 1),
        }  # fmt: skip
        if plan.score.late_jobs:
            return Status(Level.WARN, f"{plan.score.late_jobs} jobs will be late", values)
        return Status(Level.OK, f"plan {plan.version} in force", values)

    def _floor_status(self) -> Status:
        state = self.floor.state
        stopped = {m.machine_id: f"{m.state.name} {m.state_reason}".rstrip()
                   for m in state.machines.values() if m.is_stopped}  # fmt: skip
        doubtful = ["/".join(d.assignment.key) for d in state.dispatches.values() if d.in_doubt]
        values: dict[str, object] = {
            "machines": len(state.machines), "jobs": len(state.jobs),
            "running": len(state.dispatches) - len(doubtful), **stopped,
        }  # fmt: skip
        if doubtful:
            text = f"in doubt, resume its job when you know: {', '.join(doubtful)}"
            return Status(Level.ERROR, text, values)
        if stopped:
            return Status(Level.WARN, f"stopped: {', '.join(stopped)}", values)
        return Status(Level.OK, "all machines up", values)


def main() -> int:
    """`ros2 run shopfloor scheduler`."""
    return run_node(SchedulerNode)


if __name__ == "__main__":
    raise SystemExit(main())
