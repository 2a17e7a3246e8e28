"""Random scheduling problems with every kind of rule, for property tests."""

from __future__ import annotations

import random
from dataclasses import replace

from shopfloor.scheduling.problem import (
    Assignment,
    Job,
    JobState,
    Machine,
    MachineKind,
    MachineState,
    Operation,
    OperationState,
    Problem,
    Window,
)

NOW = 1_700_000_000_123


def random_problem(seed: int, *, hard: bool = True) -> Problem:
    """Two to six machines, one to ten jobs, and whatever rules the seed draws."""
    rng = random.Random(seed)
    machines = [_machine(rng, number, hard) for number in range(rng.randint(2, 6))]
    names = [m.machine_id for m in machines]
    if len(names) > 2 and rng.random() < 0.5:
        machines[0] = replace(machines[0], forbidden_with=(names[1],))
    resource = Machine("camera", kind=MachineKind.RESOURCE, capacity=rng.choice((1, 1, 2)))
    if rng.random() < 0.3:
        start = NOW + rng.randint(0, 50_000)
        resource = replace(resource, downtimes=(Window(start, start + 20_000),))
    jobs: list[Job] = []
    fixed: list[Assignment] = []
    single = [m.machine_id for m in machines if m.capacity == 1]
    families = ("red", "blue", "green")
    for number in range(rng.randint(1, 10)):
        operations: list[Operation] = []
        for step in range(rng.randint(1, 4)):
            eligible = tuple(rng.sample(names, rng.randint(1, len(names))))
            before = (operations[-1].operation_id,) if operations and rng.random() < 0.8 else ()
            has_family = rng.random() < 0.6 and all(name in single for name in eligible)
            operations.append(
                Operation(
                    f"o{step}",
                    eligible,
                    tuple(rng.randint(500, 30_000) for _ in eligible),
                    rng.randint(500, 30_000),
                    before,
                    rng.choice(families) if has_family else "",
                    ("camera",) if rng.random() < 0.3 else (),
                    pinned_machine=rng.choice(eligible) if rng.random() < 0.1 else "",
                )
            )
        runs: list[Assignment] = []
        if rng.random() < 0.2 and single:
            runs = _running(rng, number, operations, single, fixed)
        fixed += runs
        jobs.append(
            Job(
                f"j{number}",
                tuple(operations),
                release=NOW + rng.randint(-5000, 40_000) if rng.random() < 0.5 else None,
                due=NOW + rng.randint(1000, 200_000) if rng.random() < 0.8 else None,
                weight=rng.choice((0.5, 1.0, 3.0)),
                state=rng.choice((JobState.HELD, *[JobState.WAITING] * 9)),
                predecessors=(f"j{number - 1}",)
                if number and not runs and rng.random() < 0.2
                else (),
            )
        )
    return Problem(
        NOW,
        (*machines, resource),
        tuple(jobs),
        f"random {seed}",
        fixed=tuple(fixed),
        setup_families=families,
        setup_ms=tuple(
            tuple(0 if a == b else rng.randint(0, 9000) for b in families) for a in families
        ),
        tariff=(
            Window(NOW - 1000, NOW + 30_000, 0.3),
            Window(NOW + 60_000, NOW + 120_000, 0.1),
        ),
        default_price=0.2,
    )


def _machine(rng: random.Random, number: int, hard: bool) -> Machine:
    calendar: tuple[Window, ...] = ()
    downtimes: tuple[Window, ...] = ()
    if hard and rng.random() < 0.3:
        calendar = tuple(
            Window(NOW + day * 100_000, NOW + day * 100_000 + 70_000) for day in range(40)
        )
    if hard and rng.random() < 0.4:
        start = NOW + rng.randint(-3000, 60_000)
        downtimes = (Window(start, start + rng.randint(1000, 40_000), label="service"),)
    stopped = rng.random() < 0.15
    return Machine(
        f"m{number}",
        state=MachineState.DOWN if stopped else MachineState.UP,
        state_until=NOW + rng.randint(1000, 90_000) if stopped else None,
        capacity=rng.choice((1, 1, 1, 2)),
        power_kw=rng.uniform(1, 10),
        idle_power_kw=rng.uniform(0, 1),
        calendar=calendar,
        downtimes=downtimes,
    )


def _running(
    rng: random.Random,
    number: int,
    operations: list[Operation],
    single: list[str],
    fixed: list[Assignment],
) -> list[Assignment]:
    first = operations[0]
    machine = next((m for m in first.machine_ids if m in single), "")
    taken = {a.machine_id for a in fixed}
    if not machine or machine in taken:
        return []
    operations[0] = replace(first, state=OperationState.RUNNING)
    start = NOW - rng.randint(0, 5000)
    length = first.durations_ms[first.machine_ids.index(machine)]
    end = max(start + length, NOW + 1)
    return [
        Assignment(f"j{number}", first.operation_id, machine, start, end,
                   state=OperationState.RUNNING, frozen=True)
    ]  # fmt: skip
