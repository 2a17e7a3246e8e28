"""What the scheduler does by itself when verdicts, heat or a bearing say that it must."""

from __future__ import annotations

from functools import partial
from typing import Any

from shopfloor_msgs.msg import InspectionResult, MachineHealth, PartVerdict, ThermalState

from shopfloor.scheduling import messages
from shopfloor.scheduling.journal import EventKind
from shopfloor.scheduling.problem import Machine, MachineState, Window
from shopfloor.scheduling.reactions import FailRuns, Heat, is_booked, pairs, thermal_factor
from shopfloor.scheduling.steps import Step


class Reactions:
    """Listens on the scheduler's node to what its parameters name. Raises ValueError."""

    def __init__(self, node: Any) -> None:
        self._node = node
        params = node.params
        self._fails = FailRuns(pairs(params.feeders, "feeders"), params.fail_run)
        self._heat = Heat(pairs(params.thermal_machines, "thermal_machines"))
        self._names = pairs(params.health_machines, "health_machines")
        self._full_fps: dict[str, float] = {}
        self._unknown: set[str] = set()
        if self._fails.feeders:
            node.subscription("part_verdict", self._on_verdict)
        for host in self._heat.hosts:
            node.subscription("thermal_state", partial(self._on_thermal, host), host=host)
        for machine in self._names:
            node.subscription("machine_health", self._on_health, machine=machine)

    def set_fail_run(self, length: int) -> None:
        """So many FAIL verdicts in a row hold a feeder."""
        self._fails.limit = length

    def acknowledged(self, machine_id: str) -> None:
        """Somebody set the machine up again: its stations count anew."""
        self._fails.forget(machine_id)

    def _change(self, kind: EventKind, machine: str, state: MachineState, why: str,
                factor: float = 1.0) -> None:  # fmt: skip
        """A machine changes on the graph's own account."""

        def act(step: Step) -> None:
            self._node.commands.change_machine(step, kind, machine, state, why, None, factor)

        self._node.commands.step(act)
        self._node.repair(f"{machine} {state.name}")

    def _on_verdict(self, verdict: PartVerdict) -> None:
        if not self._node.is_active or verdict.revision != 1:
            return
        for evidence in verdict.evidence:
            judged = (InspectionResult.VERDICT_PASS, InspectionResult.VERDICT_FAIL)
            if evidence.verdict not in judged:
                continue
            failed = evidence.verdict == InspectionResult.VERDICT_FAIL
            machine = self._fails.add(evidence.station, failed)
            if not machine or (present := self._machine(machine)) is None:
                continue
            if not present.is_stopped:
                why = f"{self._node.params.fail_run} FAIL verdicts in a row at {evidence.station}"
                self._change(EventKind.DEFECT_STOP, machine, MachineState.HELD, why)

    def _on_thermal(self, host: str, state: ThermalState) -> None:
        if not self._node.is_active:
            return
        if state.rung == 0 and state.guaranteed_fps > 0:
            self._full_fps[host] = float(state.guaranteed_fps)
        factor = thermal_factor(
            state.rung, state.rung_count, float(state.guaranteed_fps), self._full_fps.get(host, 0.0)
        )
        self._heat.hear(host, state.rung, state.rung_name, factor)
        present = self._machine(self._heat.hosts[host])
        if present is None:
            return
        machine = present.machine_id
        slowed = self._node.floor.state.slowed.get(machine, 1.0)
        if (change := self._heat.change(present, slowed)) is not None:
            wanted, factor, why = change
            self._change(EventKind.THERMAL_DERATE, machine, wanted, why, factor)

    def _on_health(self, health: MachineHealth) -> None:
        if not self._node.is_active or health.tier != MachineHealth.TIER_WORK_ORDER:
            return
        machine_id = self._names.get(health.machine_id, health.machine_id)
        machine = self._machine(machine_id)
        alert = health.alert_id or f"{machine_id} {health.component}"
        if machine is not None and not is_booked(machine, alert):
            self._book_maintenance(machine_id, f"{alert}: {health.reason}")

    def _machine(self, machine_id: str) -> Machine | None:
        """The machine; None, said once, where the parameters name one that there is not."""
        machines = self._node.floor.state.machines
        machine: Machine | None = machines.get(machine_id)
        if machine is None and machines and machine_id not in self._unknown:
            self._unknown.add(machine_id)
            self._node.fault("unknown machine", f"{machine_id}: not in the problem")
        return machine

    def _book_maintenance(self, machine_id: str, why: str) -> None:
        """A stop at the first end of an operation after the freeze horizon."""
        plan, now = self._node.floor.in_force, self._node.commands.now_ms()
        after = now + round(self._node.params.freeze_horizon_s * 1000)
        rows = plan.assignments if plan is not None else ()
        there = [a for a in rows if a.machine_id == machine_id and a.start < after < a.end]
        start = max((a.end for a in there), default=after)
        end = start + round(self._node.params.maintenance_s * 1000)
        window = Window(start, end, 0.0, messages.text(why, 128))
        self._node.commands.book_downtime(machine_id, window, why)
        self._node.repair(f"{machine_id} maintenance")
