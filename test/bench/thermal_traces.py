"""Temperature traces whose future is known, and how far off a forecast of them is."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np

from shopfloor.sim.thermal_plant import ThermalPlant, random_board
from shopfloor.thermal.forecast import Trace


def forecast_errors(
    slopes_per_min: tuple[float, float], traces: int, seed: int
) -> list[tuple[float, float, float]]:
    """Errors in seconds of a crossing 60 s ahead: with the fan's speed, without, straight line.

    Each trace is a random board whose load or fan changed a while ago, read by a sensor of whole
    degrees with noise, jitter and a gap. The limit lies where the board will be in 60 s.
    """
    dice = random.Random(seed)
    errors: list[tuple[float, float, float]] = []
    while len(errors) < traces:
        truth, fans = _trajectory(dice)
        fits = [
            i
            for i in range(150, len(truth) - 1)
            if slopes_per_min[0] <= 60.0 * (truth[i + 1] - truth[i]) <= slopes_per_min[1]
        ]
        if fits:
            errors.append(_forecast_once(dice, truth, fans, dice.choice(fits)))
    return errors


def _trajectory(dice: random.Random) -> tuple[list[float], list[float]]:
    """Die temperatures and fan speeds, one a second, for half an hour; nothing throttles."""
    spec = replace(random_board(dice.randrange(1 << 30)), trip_celsius=500.0)
    start = dice.uniform(0.0, 0.6)
    plant = ThermalPlant(spec, hall_celsius=dice.uniform(20.0, 35.0), fps=30.0 * start)
    drift = dice.uniform(0.0, 0.3) / 60.0
    fails = dice.random() < 0.4
    truth, fans = [], []
    for second in range(1800):
        if second == 30:
            plant.fan_works = not fails
            plant.fps = plant.fps if fails else 30.0 * dice.uniform(start + 0.3, 1.0)
        plant.hall_celsius += drift
        plant.step(1.0)
        truth.append(plant.die_celsius)
        fans.append(plant.fan)
    return truth, fans


def _forecast_once(
    dice: random.Random, truth: list[float], fans: list[float], crossing: int
) -> tuple[float, float, float]:
    """Errors in seconds: knowing the fan, without it, and of the straight line."""
    trace, blind, now_s = Trace(), Trace(), crossing - 60.0
    noise, offset = dice.uniform(0.1, 0.4), dice.random()
    gap_s = dice.uniform(max(0.0, now_s - 200.0), now_s - 10.0)
    at_s, times, values, told_s = max(0.0, now_s - 300.0), [], [], 0.0
    while at_s < now_s:
        if not gap_s < at_s < gap_s + 5.0:
            second = int(at_s)
            part = at_s - second
            celsius = truth[second] * (1.0 - part) + truth[second + 1] * part + offset
            celsius = round(celsius + dice.gauss(0.0, noise))
            trace.add(at_s, celsius, round(255 * fans[second]) / 255)
            blind.add(at_s, celsius)
            if at_s - told_s >= 4.0:
                told_s = at_s
                trace.forecast(at_s)
                blind.forecast(at_s)
            times.append(at_s)
            values.append(celsius)
        at_s += 0.15 * dice.uniform(0.7, 1.3)
    limit = truth[crossing] + offset
    recent = [i for i, t in enumerate(times) if t > now_s - 30.0]
    slope, base = np.polyfit([times[i] - now_s for i in recent], [values[i] for i in recent], 1)
    straight = (limit - base) / slope - 60.0 if slope > 1e-6 else math.inf
    return _error(trace, now_s, limit), _error(blind, now_s, limit), straight


def _error(trace: Trace, now_s: float, limit: float) -> float:
    forecast = trace.forecast(now_s)
    return forecast.seconds_to(limit) - 60.0 if forecast is not None else math.inf
