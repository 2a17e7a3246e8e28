"""Problems, plans and events as messages, and back. ROS nanoseconds become whole milliseconds."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

from builtin_interfaces.msg import Time
from shopfloor_msgs import msg

from shopfloor.scheduling.explain import Change
from shopfloor.scheduling.floor import StoredPlan
from shopfloor.scheduling.journal import Event
from shopfloor.scheduling.objective import Score
from shopfloor.scheduling.problem import (
    Assignment,
    Constraint,
    Job,
    JobState,
    Machine,
    MachineKind,
    MachineState,
    Operation,
    OperationState,
    Problem,
    ProblemError,
    Weights,
    Window,
)

_MAX_CHANGES = 4096
_TEXT_BYTES = 254


def stamp(ms: int | None) -> Time:
    """ROS time of milliseconds; None is 0."""
    value = max(ms or 0, 0)
    return Time(sec=value // 1000, nanosec=value % 1000 * 1_000_000)


def milliseconds(time: Any, *, up: bool = False) -> int | None:
    """Milliseconds of ROS time, rounded down or up; 0 is None."""
    rest = time.nanosec / 1_000_000
    value = time.sec * 1000 + (int(-(-rest // 1)) if up else int(rest))
    return value or None


def text(words: str, limit: int = _TEXT_BYTES) -> str:
    """Cut to so many bytes."""
    return words.encode()[:limit].decode(errors="ignore")


def _required(time: Any) -> int:
    return milliseconds(time) or 0


# From messages --------------------------------------------------------------------------------


def problem_from(message: Any, now: int, weights: Weights) -> Problem:
    """The problem of a message; `now` and `weights` where it has none. Raises ProblemError."""
    try:
        count = len(message.setup_families)
        flat = [round(s * 1000) for s in message.setup_s]
        if len(flat) != count * count:
            raise ValueError(f"setup_s: {len(flat)} values for {count} families")
        own = (message.weight_utilisation, message.weight_tardiness, message.weight_energy)
        return Problem(
            now=milliseconds(message.now, up=True) or now,
            horizon=milliseconds(message.horizon),
            problem_id=message.problem_id,
            machines=tuple(_machine(m) for m in message.machines),
            jobs=tuple(_job(j) for j in message.jobs),
            fixed=tuple(assignment_from(a) for a in message.fixed),
            setup_families=tuple(message.setup_families),
            setup_ms=tuple(tuple(flat[i * count : (i + 1) * count]) for i in range(count)),
            tariff=_windows(message.tariff),
            default_price=float(message.default_price),
            weights=Weights(*map(float, own)) if any(own) else weights,
        )
    except (ValueError, OverflowError) as error:
        raise ProblemError([str(error)]) from None


def _windows(rows: Iterable[Any]) -> tuple[Window, ...]:
    return tuple(
        Window(_required(w.start), _required(w.end), float(w.value), w.label) for w in rows
    )


def _machine(m: Any) -> Machine:
    return Machine(
        machine_id=m.machine_id,
        line=m.line,
        kind=MachineKind(m.kind),
        state=MachineState(m.state),
        state_reason=m.state_reason,
        state_until=milliseconds(m.state_until),
        capacity=m.capacity,
        speed_factor=float(m.speed_factor),
        power_kw=float(m.power_kw),
        idle_power_kw=float(m.idle_power_kw),
        calendar=_windows(m.calendar),
        downtimes=_windows(m.downtimes),
        forbidden_with=tuple(m.forbidden_with),
    )


def _job(j: Any) -> Job:
    return Job(
        job_id=j.job_id,
        operations=tuple(_operation(o) for o in j.operations),
        product=j.product,
        quantity=j.quantity,
        release=milliseconds(j.release),
        due=milliseconds(j.due),
        due_is_hard=j.due_is_hard,
        weight=float(j.weight),
        state=JobState(j.state),
        predecessors=tuple(j.predecessors),
    )


def _operation(o: Any) -> Operation:
    return Operation(
        operation_id=o.operation_id,
        machine_ids=tuple(o.machine_ids),
        durations_ms=tuple(round(d * 1000) for d in o.durations_s),
        standard_ms=round(o.standard_s * 1000),
        predecessors=tuple(o.predecessors),
        setup_family=o.setup_family,
        resource_ids=tuple(o.resource_ids),
        state=OperationState(o.state),
        pinned_machine=o.pinned_machine,
        pinned_start=milliseconds(o.pinned_start),
    )


def assignment_from(a: Any) -> Assignment:
    """An assignment. Raises ValueError on an unknown state."""
    return Assignment(
        a.job_id, a.operation_id, a.machine_id, _required(a.start), _required(a.end),
        round(a.setup_s * 1000), OperationState(a.state), a.frozen, a.pinned,
    )  # fmt: skip


# To messages ----------------------------------------------------------------------------------


def assignment_message(a: Assignment | None) -> Any:
    """An assignment; None is an empty one."""
    if a is None:
        return msg.Assignment()
    return msg.Assignment(
        job_id=a.job_id, operation_id=a.operation_id, machine_id=a.machine_id,
        start=stamp(a.start), end=stamp(a.end), setup_s=a.setup_ms / 1000.0,
        state=int(a.state), frozen=a.frozen, pinned=a.pinned,
    )  # fmt: skip


def constraint_message(c: Constraint) -> Any:
    """A rule."""
    return msg.Constraint(
        kind=int(c.rule), job_id=c.job_id, operation_id=c.operation_id, machine_id=c.machine_id,
        other_id=c.other_id, text=text(c.text),
        window=_window_message(c.window) if c.window is not None else msg.TimeWindow(),
    )  # fmt: skip


def _window_message(w: Window) -> Any:
    return msg.TimeWindow(
        start=stamp(w.start), end=stamp(w.end), value=float(w.value), label=text(w.label, 128)
    )


def score_message(s: Score | None) -> Any:
    """The figures of a plan."""
    if s is None:
        return msg.PlanScore()
    return msg.PlanScore(
        objective=float(s.objective), utilisation=float(s.utilisation),
        tardiness=float(s.tardiness), energy=float(s.energy), makespan_s=float(s.makespan_s),
        late_jobs=s.late_jobs, total_tardiness_s=float(s.total_tardiness_s),
        energy_kwh=float(s.energy_kwh), energy_cost=float(s.energy_cost),
        changed_fraction=float(s.changed_fraction),
    )  # fmt: skip


def change_message(c: Change) -> Any:
    """A difference of two plans."""
    return msg.PlanChange(
        kind=int(c.kind), before=assignment_message(c.before), after=assignment_message(c.after)
    )


def event_message(e: Event, plant: str) -> Any:
    """An event of the journal."""
    message = msg.PlanEvent(
        sequence=e.sequence, kind=int(e.kind), machine_id=e.machine_id, job_id=e.job_id,
        operation_id=e.operation_id, plan_version=e.plan_version, command_id=e.command_id,
        caller=e.caller, text=text(e.text),
    )  # fmt: skip
    message.header.stamp = Time(sec=e.stamp_ns // 1_000_000_000, nanosec=e.stamp_ns % 1_000_000_000)
    message.header.frame_id = plant
    return message


def plan_message(plan: StoredPlan, plant: str, changes: list[Change]) -> Any:
    """A plan with the problem that it solves."""
    message = msg.Plan(
        version=plan.version,
        base_version=plan.base_version,
        plan_sha256=plan.sha256,
        problem_sha256=plan.problem.sha256,
        state=int(plan.state),
        problem=problem_message(plan.problem),
        assignments=[assignment_message(a) for a in plan.assignments],
        score=score_message(plan.score),
        baseline_rule=text(plan.baseline_rule, 32),
        baseline_score=score_message(plan.baseline_score),
        objective_bound=plan.bound,
        solver_stage=text(plan.stage, 32),
        solve_ms=plan.solve_ms,
        changes=[change_message(c) for c in changes[:_MAX_CHANGES]],
    )
    seconds, rest = divmod(plan.stamp_ns, 1_000_000_000)
    message.header.stamp = Time(sec=seconds, nanosec=rest)
    message.header.frame_id = plant
    return message


def problem_message(p: Problem) -> Any:
    """A problem."""
    return msg.SchedulingProblem(
        problem_id=text(p.problem_id, 64),
        now=stamp(p.now),
        horizon=stamp(p.horizon),
        machines=[_machine_message(m) for m in p.machines],
        jobs=[_job_message(j) for j in p.jobs],
        fixed=[assignment_message(a) for a in p.fixed],
        setup_families=list(p.setup_families),
        setup_s=array("f", [s / 1000.0 for row in p.setup_ms for s in row]),
        tariff=[_window_message(w) for w in p.tariff],
        default_price=p.default_price,
        weight_utilisation=p.weights.utilisation,
        weight_tardiness=p.weights.tardiness,
        weight_energy=p.weights.energy,
    )


def _machine_message(m: Machine) -> Any:
    return msg.Machine(
        machine_id=m.machine_id, line=m.line, kind=int(m.kind), state=int(m.state),
        state_reason=text(m.state_reason), state_until=stamp(m.state_until), capacity=m.capacity,
        speed_factor=float(m.speed_factor), power_kw=float(m.power_kw),
        idle_power_kw=float(m.idle_power_kw),
        calendar=[_window_message(w) for w in m.calendar],
        downtimes=[_window_message(w) for w in m.downtimes],
        forbidden_with=list(m.forbidden_with),
    )  # fmt: skip


def _job_message(j: Job) -> Any:
    return msg.Job(
        job_id=j.job_id, product=j.product, quantity=j.quantity, release=stamp(j.release),
        due=stamp(j.due), due_is_hard=j.due_is_hard, weight=float(j.weight), state=int(j.state),
        predecessors=list(j.predecessors),
        operations=[_operation_message(o) for o in j.operations],
    )  # fmt: skip


def _operation_message(o: Operation) -> Any:
    return msg.Operation(
        operation_id=o.operation_id, predecessors=list(o.predecessors),
        machine_ids=list(o.machine_ids),
        durations_s=array("f", [d / 1000.0 for d in o.durations_ms]),
        standard_s=o.standard_ms / 1000.0, setup_family=o.setup_family,
        resource_ids=list(o.resource_ids), state=int(o.state), pinned_machine=o.pinned_machine,
        pinned_start=stamp(o.pinned_start),
    )  # fmt: skip
