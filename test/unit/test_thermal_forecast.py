"""Forecasts on traces whose future is known: coarse, noisy, with jitter and gaps."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from shopfloor.thermal.forecast import Forecast, Trace


def rise(
    dice: random.Random, slope_per_s: float, tau_s: float, history_s: float, resolution: float
) -> Forecast | None:
    """A board that reaches 90 C in 60 s with that slope."""
    trace = Trace()
    trace.add(0.0, 0.0)
    trace.restart()
    at_s, gap_s = -60.0 - history_s, dice.uniform(-60.0 - history_s, -70.0)
    while at_s < -60.0:
        if not gap_s < at_s < gap_s + 4.0:
            celsius = 90.0 + slope_per_s * tau_s * (1.0 - math.exp(-at_s / tau_s))
            celsius += dice.gauss(0.0, 0.2)
            trace.add(1000.0 + at_s, round(celsius / resolution) * resolution)
        at_s += 0.15 * dice.uniform(0.7, 1.3)
    return trace.forecast(940.0)


@pytest.mark.parametrize(
    ("slopes_per_min", "tau_s", "history_s"),
    [((1.0, 3.0), (150.0, 500.0), 180.0), ((6.0, 15.0), (100.0, 150.0), 90.0)],
    ids=["slow", "fast"],
)
def test_a_crossing_a_minute_ahead(
    slopes_per_min: tuple[float, float], tau_s: tuple[float, float], history_s: float
) -> None:
    dice = random.Random(5)
    errors = []
    for _ in range(40):
        slope, tau = dice.uniform(*slopes_per_min) / 60.0, dice.uniform(*tau_s)
        forecast = rise(dice, slope, tau, history_s, resolution=1.0)
        assert forecast is not None
        errors.append(abs(forecast.seconds_to(90.0) - 60.0))
    assert np.median(errors) <= 6.0
    assert np.percentile(errors, 90) <= 15.0


def test_what_stands_still_crosses_nothing() -> None:
    trace, dice = Trace(), random.Random(2)
    for i in range(2000):
        trace.add(i * 0.15, round(80.0 + dice.gauss(0.0, 0.3)))
    forecast = trace.forecast(300.0)
    assert forecast is not None
    assert forecast.seconds_to(90.0) == math.inf
    assert forecast.settling == pytest.approx(80.0, abs=1.5)
    assert forecast.temperature == pytest.approx(80.0, abs=0.4)
    assert forecast.seconds_to(79.0) == 0.0
    assert forecast.confidence > 0.8


def test_few_samples_give_no_forecast_and_short_ones_little_confidence() -> None:
    trace = Trace()
    for i in range(40):
        trace.add(i * 0.15, 60.0 + (i % 2))
    assert trace.forecast(6.0) is None
    for i in range(40, 80):
        trace.add(i * 0.15, 60.0 + (i % 2))
    forecast = trace.forecast(12.0)
    assert forecast is not None and forecast.confidence < 0.6


def test_a_load_that_changes_is_noticed_from_the_trace_alone() -> None:
    trace, at_s = Trace(), 0.0
    while at_s < 300.0:
        trace.add(at_s, 60.0)
        at_s += 0.15
        trace.forecast(at_s)
    jumped_s = at_s
    forecast = None
    while at_s < jumped_s + 40.0:
        trace.add(at_s, 60.0 + 30.0 * (1.0 - math.exp(-(at_s - jumped_s) / 60.0)))
        at_s += 0.15
        forecast = trace.forecast(at_s) or forecast
    assert forecast is not None
    assert forecast.at(60.0) == pytest.approx(60.0 + 30.0 * (1.0 - math.exp(-100.0 / 60.0)), abs=4)


def test_time_that_stands_still_or_has_a_long_gap_does_no_harm() -> None:
    trace = Trace()
    for i in range(100):
        trace.add(50.0 + i * 0.15, 70.0)
    assert trace.forecast(65.0) is not None
    for _ in range(100):
        trace.add(65.0, 70.0)
    assert trace.forecast(65.0) is not None
    trace.add(10_000.0, 71.0)
    assert trace.forecast(10_000.0) is None
