"""Temperature traces whose future is known, and how far off a forecast of them is."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from shopfloor.sim.thermal_plant import BoardSpec, ThermalPlant, random_board
from shopfloor.thermal.forecast import WINDOW_S, Trace

AHEAD_S = 60.0
CHANGE_S = 30
SAMPLE_S = 0.15
GAP_S = 5.0
FORECAST_PERIOD_S = 4.0


@dataclass(frozen=True)
class Trajectory:
    """Half an hour of a random board, one value a second; the load or the fan changed at CHANGE_S.

    drift: of the hall in degrees a second. watts: before and after the change, leakage left out.
    """

    spec: BoardSpec
    die: list[float]
    sink: list[float]
    hall: list[float]
    fan: list[float]
    drift: float
    watts: tuple[float, float]
    fan_fails: bool


@dataclass(frozen=True)
class Crossing:
    """A limit that is reached at second `at_s`, and how the sensor sees it from a minute before.

    noise: its standard deviation. offset: what it reads too much. Samples are missing for GAP_S
    from gap_s on.
    """

    trajectory: Trajectory
    at_s: int
    noise: float
    offset: float
    gap_s: float
    seed: int

    @property
    def now_s(self) -> float:
        """When the forecast is made."""
        return self.at_s - AHEAD_S

    @property
    def since_s(self) -> float:
        """The first sample."""
        return max(0.0, self.now_s - WINDOW_S)

    @property
    def limit_celsius(self) -> float:
        """As the sensor sees it."""
        return self.trajectory.die[self.at_s] + self.offset


def crossings(slopes_per_min: tuple[float, float], count: int, seed: int) -> list[Crossing]:
    """Crossings at these slopes, of random boards through sensors of whole degrees."""
    dice = random.Random(seed)
    made: list[Crossing] = []
    while len(made) < count:
        path = _trajectory(dice)
        die = path.die
        fits = [
            i
            for i in range(150, len(die) - 1)
            if slopes_per_min[0] <= 60.0 * (die[i + 1] - die[i]) <= slopes_per_min[1]
        ]
        if not fits:
            continue
        at_s = dice.choice(fits)
        now_s = at_s - AHEAD_S
        gap_s = dice.uniform(max(0.0, now_s - 200.0), now_s - 10.0)
        noise, offset = dice.uniform(0.1, 0.4), dice.random()
        made.append(Crossing(path, at_s, noise, offset, gap_s, dice.randrange(1 << 30)))
    return made


def forecast_errors(
    slopes_per_min: tuple[float, float], traces: int, seed: int
) -> list[tuple[float, float, float]]:
    """Errors in seconds of a crossing 60 s ahead: with the fan's speed, without, straight line."""
    return [_forecast_once(crossing) for crossing in crossings(slopes_per_min, traces, seed)]


def _trajectory(dice: random.Random) -> Trajectory:
    """Nothing throttles, and the board has settled before the change."""
    spec = replace(random_board(dice.randrange(1 << 30)), trip_celsius=500.0)
    start = dice.uniform(0.0, 0.6)
    plant = ThermalPlant(spec, hall_celsius=dice.uniform(20.0, 35.0), fps=30.0 * start)
    drift = dice.uniform(0.0, 0.3) / 60.0
    fails = dice.random() < 0.4
    end = start if fails else dice.uniform(start + 0.3, 1.0)
    die, sink, hall, fan = [], [], [], []
    for second in range(1800):
        if second == CHANGE_S:
            plant.fan_works = not fails
            plant.fps = 30.0 * end
        plant.hall_celsius += drift
        plant.step(1.0)
        die.append(plant.die_celsius)
        sink.append(plant.sink_celsius)
        hall.append(plant.hall_celsius)
        fan.append(plant.fan)
    watts = spec.idle_w + spec.switching_w * start, spec.idle_w + spec.switching_w * end
    return Trajectory(spec, die, sink, hall, fan, drift, watts, fails)


def _forecast_once(crossing: Crossing) -> tuple[float, float, float]:
    now_s, limit = crossing.now_s, crossing.limit_celsius
    trace, blind = Trace(), Trace()
    times, values = [], []
    for at_s, celsius, fan in fed(crossing, trace, blind):
        trace.add(at_s, celsius, fan)
        blind.add(at_s, celsius)
        times.append(at_s)
        values.append(celsius)
    recent = [i for i, t in enumerate(times) if t > now_s - 30.0]
    slope, base = np.polyfit([times[i] - now_s for i in recent], [values[i] for i in recent], 1)
    straight = (limit - base) / slope - AHEAD_S if slope > 1e-6 else math.inf
    return error_s(trace, now_s, limit), error_s(blind, now_s, limit), straight


def fed(crossing: Crossing, *traces: Trace) -> Iterator[tuple[float, float, float]]:
    """Each reading, time, degrees and share of the fan, to be added to traces; these forecast."""
    dice, path = random.Random(crossing.seed), crossing.trajectory
    at_s, told_s = crossing.since_s, 0.0
    while at_s < crossing.now_s:
        if not crossing.gap_s < at_s < crossing.gap_s + GAP_S:
            second = int(at_s)
            part = at_s - second
            celsius = path.die[second] * (1.0 - part) + path.die[second + 1] * part
            celsius = round(celsius + crossing.offset + dice.gauss(0.0, crossing.noise))
            yield at_s, celsius, round(255 * path.fan[second]) / 255
            if at_s - told_s >= FORECAST_PERIOD_S:
                told_s = at_s
                for trace in traces:
                    trace.forecast(at_s)
        at_s += SAMPLE_S * dice.uniform(0.7, 1.3)


def error_s(trace: Trace, now_s: float, limit: float) -> float:
    """Of the time at which the limit is forecast to be reached; infinity: it is not foreseen."""
    forecast = trace.forecast(now_s)
    return forecast.seconds_to(limit) - AHEAD_S if forecast is not None else math.inf
