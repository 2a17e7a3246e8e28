"""Whether a problem makes sense: errors that name job, machine and field."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import pairwise

from shopfloor.scheduling.problem import (
    JobState,
    MachineKind,
    Operation,
    OperationState,
    Problem,
    ProblemError,
    Window,
)


def validate(problem: Problem) -> None:
    """Raises ProblemError naming job, machine and field of everything that cannot be right."""
    problems = [*_machines(problem), *_jobs(problem), *_fixed(problem), *_rest(problem)]
    if problems:
        raise ProblemError(problems)


def _number(what: str, value: float, low: float, *, above: bool = False) -> Iterator[str]:
    if not math.isfinite(value) or value < low or (above and value == low):
        allowed = f"{'more than' if above else 'at least'} {low:g}"
        yield f"{what}: {value!r} is not allowed; allowed: a number of {allowed}"


def _windows(what: str, windows: Iterable[Window]) -> Iterator[str]:
    for window in windows:
        if window.end <= window.start:
            yield f"{what}: window ends at {window.end}, not after its start {window.start}"


def _twice(what: str, ids: Iterable[str]) -> Iterator[str]:
    for name, count in Counter(ids).items():
        if not name:
            yield f"{what}: an id is empty"
        elif count > 1:
            yield f"{what}: id '{name}' comes {count} times"


def _machines(p: Problem) -> Iterator[str]:
    yield from _twice("machines", (m.machine_id for m in p.machines))
    for m in p.machines:
        where = f"machine {m.machine_id}"
        if m.kind is MachineKind.UNKNOWN:
            yield f"{where}.kind: unknown; allowed: production, resource"
        yield from _number(f"{where}.capacity", m.capacity, 1)
        yield from _number(f"{where}.speed_factor", m.speed_factor, 0, above=True)
        yield from _number(f"{where}.power_kw", m.power_kw, 0)
        yield from _number(f"{where}.idle_power_kw", m.idle_power_kw, 0)
        yield from _windows(f"{where}.calendar", m.calendar)
        yield from _windows(f"{where}.downtimes", m.downtimes)
        for other in m.forbidden_with:
            if other not in p.machine_by_id or other == m.machine_id:
                yield f"{where}.forbidden_with: no other machine '{other}'"


def _jobs(p: Problem) -> Iterator[str]:
    yield from _twice("jobs", (j.job_id for j in p.jobs))
    for j in p.jobs:
        where = f"job {j.job_id}"
        if not j.operations:
            yield f"{where}.operations: empty; a job needs at least one"
        if j.state is JobState.UNKNOWN:
            yield f"{where}.state: unknown"
        yield from _number(f"{where}.weight", j.weight, 0, above=True)
        yield from _twice(f"{where}.operations", (o.operation_id for o in j.operations))
        for name in j.predecessors:
            if name not in p.job_by_id:
                yield f"{where}.predecessors: no job '{name}'"
        own = {o.operation_id for o in j.operations}
        for o in j.operations:
            yield from _operation(p, f"{where} operation {o.operation_id}", o, own)
            key = (j.job_id, o.operation_id)
            if o.state is OperationState.RUNNING and key not in p.fixed_by_key:
                yield f"{where} operation {o.operation_id}: runs, but is not among the fixed ones"
        if cycle := _cycle({o.operation_id: o.predecessors for o in j.operations}):
            yield f"{where}.operations: predecessors form a circle: {' -> '.join(cycle)}"
    if cycle := _cycle({j.job_id: j.predecessors for j in p.jobs}):
        yield f"jobs: predecessors form a circle: {' -> '.join(cycle)}"


def _operation(p: Problem, where: str, o: Operation, own: set[str]) -> Iterator[str]:
    if not o.machine_ids:
        yield f"{where}.machine_ids: empty; an operation needs an eligible machine"
    if len(o.machine_ids) != len(o.durations_ms):
        yield f"{where}.durations: {len(o.durations_ms)} for {len(o.machine_ids)} machines"
    yield from _twice(f"{where}.machine_ids", o.machine_ids)
    for name in o.machine_ids:
        machine = p.machine_by_id.get(name)
        if machine is None or machine.kind is not MachineKind.PRODUCTION:
            yield f"{where}.machine_ids: no production machine '{name}'"
        elif machine.capacity > 1 and o.setup_family:
            yield f"{where}.setup_family: machine {name} has capacity {machine.capacity}, not 1"
    for duration in o.durations_ms:
        yield from _number(f"{where}.durations", duration, 0, above=True)
    yield from _number(f"{where}.standard", o.standard_ms, 0)
    for name in o.resource_ids:
        machine = p.machine_by_id.get(name)
        if machine is None or machine.kind is not MachineKind.RESOURCE:
            yield f"{where}.resource_ids: no shared resource '{name}'"
    for name in o.predecessors:
        if name not in own:
            yield f"{where}.predecessors: no operation '{name}' in this job"
    if o.setup_family and o.setup_family not in p.setup_families:
        yield f"{where}.setup_family: no family '{o.setup_family}' in setup_families"
    if o.pinned_machine and o.pinned_machine not in o.machine_ids:
        yield f"{where}.pinned_machine: '{o.pinned_machine}' is not one of its machines"
    if o.state is OperationState.UNKNOWN:
        yield f"{where}.state: unknown"


def _fixed(p: Problem) -> Iterator[str]:
    yield from _twice("fixed", (f"{a.job_id}/{a.operation_id}" for a in p.fixed))
    for a in p.fixed:
        where = f"fixed job {a.job_id} operation {a.operation_id}"
        if a.key not in p.operation_by_key:
            yield f"{where}: no such operation"
        if a.machine_id not in p.machine_by_id:
            yield f"{where}.machine_id: no machine '{a.machine_id}'"
        if a.end <= a.start:
            yield f"{where}.end: not after its start"


def _rest(p: Problem) -> Iterator[str]:
    families = len(p.setup_families)
    if len(p.setup_ms) != families or any(len(row) != families for row in p.setup_ms):
        yield f"setup: not a square of {families} families"
    for row in p.setup_ms:
        for value in row:
            yield from _number("setup", value, 0)
    yield from _twice("setup_families", p.setup_families)
    yield from _windows("tariff", p.tariff)
    ordered = sorted(p.tariff, key=lambda w: w.start)
    for first, second in pairwise(ordered):
        if second.start < first.end:
            yield f"tariff: windows {first.label!r} and {second.label!r} overlap"
    for window in p.tariff:
        yield from _number("tariff.value", window.value, 0)
    yield from _number("default_price", p.default_price, 0)
    for name, weight in asdict(p.weights).items():
        yield from _number(f"weight_{name}", weight, 0)
    if p.horizon is not None and p.horizon <= p.now:
        yield f"horizon: {p.horizon} is not after now ({p.now})"


def _cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Names on one circle, empty: there is none."""
    done: set[str] = set()
    for root in graph:
        path: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = [(root, iter(graph[root]))]
        on_path = {root}
        path.append(root)
        while stack and root not in done:
            name, rest = stack[-1]
            following = next((n for n in rest if n in graph and n not in done), None)
            if following is None:
                stack.pop()
                path.pop()
                on_path.discard(name)
                done.add(name)
            elif following in on_path:
                return [*path[path.index(following) :], following]
            else:
                stack.append((following, iter(graph[following])))
                on_path.add(following)
                path.append(following)
    return []
