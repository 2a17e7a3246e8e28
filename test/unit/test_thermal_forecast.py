"""Forecasts on traces whose future is known: coarse, noisy, with jitter and gaps."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from shopfloor.thermal.forecast import Trace

sys.path.append(str(Path(__file__).parents[1] / "bench"))
from thermal_traces import forecast_errors


@pytest.mark.parametrize("slopes_per_min", [(1.0, 3.0), (4.0, 15.0)], ids=["slow", "fast"])
def test_a_crossing_a_minute_ahead(slopes_per_min: tuple[float, float]) -> None:
    """On random boards of two masses; the whole distribution is in the bench."""
    ours, blind, _ = np.abs(forecast_errors(slopes_per_min, 10, seed=5)).T
    for errors, within in ((ours, 0.7), (blind, 0.5)):
        assert np.isfinite(errors).all(), "a crossing was not foreseen"
        assert np.mean(errors <= 10.0) >= within


def test_rounding_to_whole_degrees_costs_little() -> None:
    """Without noise all that is known is when the readings change."""
    trace = Trace()
    for i in range(2000):
        at_s = i * 0.15
        trace.add(at_s, round(60.0 + 20.0 * (1.0 - math.exp(-at_s / 200.0))))
    forecast = trace.forecast(300.0)
    assert forecast is not None
    for ahead_s in (0.0, 60.0):
        true = 60.0 + 20.0 * (1.0 - math.exp(-(300.0 + ahead_s) / 200.0))
        assert forecast.at(ahead_s) == pytest.approx(true, abs=0.2)


def test_a_step_that_the_ladder_made_turns_the_forecast_at_once() -> None:
    def celsius(at_s: float) -> float:
        rise = 25.0 * (1.0 - math.exp(-at_s / 250.0))
        cooled = max(at_s - 250.0, 0.0)
        return 70.0 + rise - 4.0 * (1.0 - math.exp(-cooled / 8.0)) - 0.06 * cooled

    trace = Trace()
    forecast = None
    for i in range(1700):
        trace.add(i * 0.15, celsius(i * 0.15))
        if i == 1667:
            trace.load_changed(i * 0.15)
        forecast = trace.forecast(i * 0.15) if i % 14 == 0 else forecast
    assert forecast is not None
    assert forecast.at(30.0) < celsius(249.0), "it cools"
    assert forecast.spread > 0.5, "and five seconds are not enough to say how far"


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
    forecast = None
    for i in range(2270):
        at_s, since_s = i * 0.15, i * 0.15 - 300.0
        celsius = 60.0 + 30.0 * (1.0 - math.exp(-max(since_s, 0.0) / 60.0))
        trace.add(at_s, celsius)
        if i % 14 == 0:
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
