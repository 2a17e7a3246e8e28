"""Forecasts of a board that was learned from other work, and of one that changed since."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
from table import Results
from thermal_traces import Crossing, crossings, error_s, fed

from shopfloor.sim.thermal_plant import FULL_FPS, BoardSpec, ThermalPlant
from shopfloor.thermal.forecast import Trace
from shopfloor.thermal.learning import BoardMemory, Learner

SEED = 926_000
"""Of traces that nobody has looked at while the learning was tuned."""

CLASSES = {"slow (1-3 C/min)": (1.0, 3.0), "fast (4-15 C/min)": (4.0, 15.0)}
HISTORY_S = 3600.0
AGAIN = 3
SAMPLE_S = 0.3
CHANGES = {"twice": 2.0, "half": 0.5}
"""Heat sinks that the board had before, as heat capacities relative to the one it has now."""

Row = list[float]
"""Errors: unknown, learned; of slow ones also for each of CHANGES at once and after 1 to AGAIN
steps."""


def learned_boards(results: Results, traces: int) -> None:
    """Each class of slopes in parts of their own seeds; changed heat sinks with the slow ones."""
    parts = 5
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = {
            (name, part): pool.submit(
                errors, CLASSES[name], traces // parts, SEED + 100 * number + part, not number
            )
            for number, name in enumerate(CLASSES)
            for part in range(parts)
        }
        for name in CLASSES:
            rows = [row for part in range(parts) for row in jobs[name, part].result()]
            _report(results, name, np.abs(np.array(rows)))


def _report(results: Results, name: str, rows: np.ndarray) -> None:
    def quantile(column: int, q: float) -> float:
        return float(np.percentile(rows[:, column], q, method="higher"))

    for label, q in (("median", 50), ("p90", 90)):
        results.add(
            f"crossing in 60 s, {name}, learned board: {label}",
            quantile(1, q),
            "s",
            quantile(0, q),
            "<= 10",
            f"error, {len(rows)} traces, learned from {HISTORY_S / 3600:g} h of other work; "
            f"baseline: unknown board; within 10 s: {100 * float((rows[:, 1] <= 10.0).mean()):.0f} "
            f"and {100 * float((rows[:, 0] <= 10.0).mean()):.0f} %",
        )
    for number, change in enumerate(CHANGES if rows.shape[1] > 2 else ()):
        first = 2 + number * (AGAIN + 1)
        for steps in range(AGAIN + 1):
            results.add(
                f"crossing in 60 s, {name}, heat sink was {change} until {steps} steps ago: p90",
                quantile(first + steps, 90),
                "s",
                quantile(0, 90),
                "baseline" if steps else "",
                "error; baseline: unknown board",
            )


def errors(
    slopes_per_min: tuple[float, float], traces: int, seed: int, with_changes: bool
) -> list[Row]:
    """Of crossings of boards, each of which was learned."""
    made = crossings(slopes_per_min, traces, seed)
    return [_errors_of(crossing, with_changes) for crossing in made]


def _errors_of(crossing: Crossing, with_changes: bool) -> Row:
    spec = crossing.trajectory.spec
    memory = BoardMemory()
    for _ in lessons(memory, spec, crossing, crossing.seed):
        pass
    unknown, learned = Trace(), Trace()
    learned.models = memory.models()
    for reading in fed(crossing, unknown, learned):
        unknown.add(*reading)
        learned.add(*reading)
    now_s, limit = crossing.now_s, crossing.limit_celsius
    row = [error_s(trace, now_s, limit) for trace in (unknown, learned)]
    for number, factor in enumerate(CHANGES.values() if with_changes else (), start=1):
        memory = BoardMemory()
        other = replace(spec, sink_c=spec.sink_c * factor)
        for _ in lessons(memory, other, crossing, crossing.seed + number):
            pass
        since = lessons(memory, spec, crossing, crossing.seed - number)
        for steps in range(AGAIN + 1):
            if steps:
                next(since, None)
            unknown.models = memory.models()
            row.append(error_s(unknown, now_s, limit))
    return row


def lessons(memory: BoardMemory, spec: BoardSpec, sensor: Crossing, seed: int) -> Iterator[None]:
    """Hours of work in a hall that drifts, as the sensor sees them; stops after each lesson."""
    dice = random.Random(seed)
    board = replace(spec, trip_celsius=500.0)
    plant = ThermalPlant(board, dice.uniform(18.0, 36.0), FULL_FPS * dice.random())
    learner = Learner(memory)
    drift, now_s, step_s = dice.uniform(-0.2, 0.2) / 60.0, 0.0, dice.uniform(60.0, 500.0)
    while now_s < HISTORY_S:
        seconds = SAMPLE_S * dice.uniform(0.7, 1.3)
        now_s += seconds
        if now_s >= step_s:
            step_s = now_s + dice.uniform(240.0, 900.0)
            change = dice.uniform(5.0, FULL_FPS - 5.0)
            plant.fps = (plant.fps + change) % FULL_FPS
            learner.load_changed(now_s)
        if abs(plant.hall_celsius - 27.0) > 9.0:
            drift = abs(drift) if plant.hall_celsius < 27.0 else -abs(drift)
        plant.hall_celsius += drift * seconds
        plant.step(seconds)
        celsius = round(plant.die_celsius + sensor.offset + dice.gauss(0.0, sensor.noise))
        learner.add(now_s, celsius, round(255 * plant.fan) / 255)
        if learner.work():
            yield
