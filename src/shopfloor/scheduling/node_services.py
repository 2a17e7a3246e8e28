"""The scheduler's services: commands that act once, and questions that change nothing."""

from __future__ import annotations

from typing import Any

from shopfloor.ros.commands import Reason, Refused
from shopfloor.scheduling import messages
from shopfloor.scheduling.explain import diff, explain
from shopfloor.scheduling.problem import MachineState


class Services:
    """Offers them on the scheduler's node, over its floor and commands."""

    def __init__(self, node: Any) -> None:
        self._node = node
        serve, state = node.service_commands.serve, node.floor.state

        def machine_state(request: Any) -> int:
            machine = state.machines.get(request.machine_id)
            return int(machine.state) if machine is not None else 0

        def job_state(request: Any) -> int:
            job = state.jobs.get(request.job_id)
            return int(job.state) if job is not None else 0

        def operation_state(request: Any) -> int:
            operation = node.floor.operation((request.job_id, request.operation_id))
            return int(operation.state) if operation is not None else 0

        def plan_state(request: Any) -> int:
            plan = node.floor.plan(request.version) if request.version else None
            return int(plan.state) if plan is not None else 0

        serve("set_machine_state", self._set_machine, state_of=machine_state)
        serve("hold_job", self._hold_job, state_of=job_state)
        serve("pin_operation", self._pin, state_of=operation_state)
        serve("commit_plan", self._commit, state_of=plan_state, report=self._report_version)
        serve("rollback_plan", self._rollback, report=self._report_version)
        node.service("explain_assignment", self._explain)
        node.service("diff_plans", self._diff)

    def _ready(self) -> None:
        if not self._node.is_active:
            raise Refused(Reason.NOT_READY, "the scheduler is not active")

    def _set_machine(self, request: Any, response: Any) -> None:
        self._ready()
        who = request.command.person or request.command.caller
        self._node.commands.set_machine_state(
            request.machine_id, request.state, float(request.speed_factor),
            messages.milliseconds(request.until), request.command.reason or f"set by {who}",
            **_ids(request),
        )  # fmt: skip
        if request.state == MachineState.UP:
            self._node.reactions.acknowledged(request.machine_id)
        response.plan_version = self._node.floor.version_in_force
        self._node.repair(f"{request.machine_id} {MachineState(request.state).name}")

    def _hold_job(self, request: Any, response: Any) -> None:
        self._ready()
        reason = request.command.reason or request.command.person or request.command.caller
        self._node.commands.hold_job(request.job_id, request.hold, reason, **_ids(request))
        self._node.repair(f"job {request.job_id} {'held' if request.hold else 'resumed'}")

    def _pin(self, request: Any, response: Any) -> None:
        self._ready()
        conflicts = self._node.commands.pin_operation(
            request.job_id, request.operation_id, request.pin, request.machine_id,
            messages.milliseconds(request.start), **_ids(request),
        )  # fmt: skip
        response.conflicts = [messages.constraint_message(c) for c in conflicts[:64]]
        if conflicts:
            raise Refused(Reason.INVALID_ARGUMENT, conflicts[0].text)
        self._node.repair(f"{request.job_id}/{request.operation_id} pinned or unpinned")

    def _commit(self, request: Any, response: Any) -> None:
        self._ready()
        self._node.commands.commit(
            request.version, request.plan_sha256, request.expected_version, **_ids(request)
        )
        self._report_version(response)
        self._node.publish_in_force()

    def _rollback(self, request: Any, response: Any) -> None:
        self._ready()
        self._node.commands.rollback(request.to_version, request.expected_version, **_ids(request))
        self._report_version(response)
        self._node.publish_in_force()

    def _report_version(self, response: Any) -> None:
        response.version_in_force = self._node.floor.version_in_force

    def _explain(self, request: Any, response: Any) -> Any:
        plan = self._node.floor.plan(request.plan_version)
        if plan is None:
            response.text = f"no plan {request.plan_version}"
            return response
        key = (request.job_id, request.operation_id)
        try:
            words, rows = explain(plan.problem, plan.assignments, key, request.other_machine_id)
        except KeyError as error:
            response.text = messages.text(str(error.args[0]))
            return response
        response.found = True
        response.text = messages.text(words)
        present = next(a for a in plan.assignments if a.key == key)
        response.assignment = messages.assignment_message(present)
        response.alternatives = [messages.assignment_message(r.assignment) for r in rows[:64]]
        for message, row in zip(response.alternatives, rows, strict=False):
            message.machine_id = row.machine_id
        response.objective_deltas = [float(r.delta) for r in rows[:64]]
        response.blocking = [messages.constraint_message(r.blocking) for r in rows[:64]]
        return response

    def _diff(self, request: Any, response: Any) -> Any:
        first = self._node.floor.plan(request.first_version)
        second = self._node.floor.plan(request.second_version)
        if first is None or second is None:
            missing = request.first_version if first is None else request.second_version
            response.text = f"no plan {missing}"
            return response
        changes = diff(first.assignments, second.assignments)
        response.found = True
        response.text = f"{len(changes)} operations differ"
        response.changes = [messages.change_message(c) for c in changes[:16384]]
        response.first_score = messages.score_message(first.score)
        response.second_score = messages.score_message(second.score)
        return response


def _ids(request: Any) -> dict[str, str]:
    return {"command_id": request.command.command_id, "caller": request.command.caller}
