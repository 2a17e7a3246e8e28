"""Each rule has its test signal; healthy windows of every simulated machine raise nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shopfloor.sim.machines import MACHINES, MachineFault, MachineStream
from shopfloor.vibration.signal import Defect, Quality, Status
from shopfloor.vibration.validation import SignalValidator

RATE, N = 10_000.0, 10_000
FULL_SCALE = 160.0
VALIDATOR = SignalValidator(RATE, N)
T = np.arange(N) / RATE


def healthy(seed: int = 5) -> np.ndarray:
    return MachineStream(MACHINES[seed % len(MACHINES)], seed).take(N)


def check(x: np.ndarray, **known: object) -> list[Quality]:
    return VALIDATOR.check(x, **{"full_scale": FULL_SCALE, **known})[1]  # type: ignore[arg-type]


def only_first(qualities: list[Quality], defect: Defect) -> bool:
    first, *others = qualities
    return (
        first.status is Status.UNKNOWN
        and first.defects == defect
        and bool(first.reason)
        and all(q.status is Status.VALID for q in others)
    )


@pytest.mark.parametrize("full_scale", [FULL_SCALE, math.nan])
def test_healthy_windows_raise_nothing(full_scale: float) -> None:
    for seed in range(12):
        fault = MachineFault("unbalance", 2.0) if seed % 2 else None
        stream = MachineStream(MACHINES[seed % 6], seed, fault=fault)
        for _ in range(4):
            x = stream.take(N)
            for data in (x, np.round(x * 200) / np.float32(200)):  # and as a coarse converter
                found = check(data, full_scale=full_scale, speed_hz=stream.speed_rpm / 60)
                assert all(q == Quality() for q in found), found


def test_nan_above_half_a_percent_or_in_a_run() -> None:
    for bad in (slice(0, 51 * 180, 180), slice(4000, 4060)):
        x = healthy()
        x[0, bad] = np.nan
        assert only_first(check(x), Defect.NAN)
    x[0] = np.nan
    assert only_first(check(x), Defect.NAN | Defect.FLATLINE)


def test_few_nan_are_bridged_and_said() -> None:
    x = healthy()
    x[0, [100, 5000, 5001]] = [np.nan, np.inf, -np.inf]
    clean, (first, *_) = VALIDATOR.check(x, full_scale=FULL_SCALE)
    assert first.status is Status.SUSPECT and first.defects == Defect.NAN
    assert np.isfinite(clean).all()
    assert clean[0, 100] == pytest.approx((x[0, 99] + x[0, 101]) / 2)
    assert np.isnan(x[0, 100]), "the window itself is left alone"


def test_a_value_that_stands_still() -> None:
    x = healthy()
    x[0, 3000:3600] = x[0, 3000]
    assert only_first(check(x), Defect.FLATLINE)
    x[0] = 0.0
    assert only_first(check(x), Defect.FLATLINE)


@pytest.mark.parametrize("volts", [0.1, 23.9])
def test_bias_outside_its_band(volts: float) -> None:
    assert only_first(check(healthy(), bias_v=(volts, 11.0, 12.4)), Defect.OPEN_BIAS)


def test_clipped_at_a_known_and_an_unknown_full_scale() -> None:
    for full_scale in (FULL_SCALE, math.nan):
        x = healthy()
        limit = FULL_SCALE if full_scale == FULL_SCALE else np.float32(0.9 * np.abs(x[0]).max())
        x[0] = np.clip(x[0] * (400 if full_scale == FULL_SCALE else 2), -limit, limit)
        assert only_first(check(x, full_scale=full_scale), Defect.SATURATION)


def test_the_crest_of_a_slow_wave_is_no_plateau() -> None:
    wave = np.round(300 * np.sin(2 * np.pi * 8 * T)).astype(np.float32) / 10
    noise = np.random.default_rng(1).standard_normal(N).astype(np.float32)
    assert check(np.array([wave, noise]), full_scale=math.nan)[0].status is Status.VALID


@pytest.mark.parametrize("full_scale", [FULL_SCALE, math.nan])
def test_an_unplugged_cable_hums(full_scale: float) -> None:
    rng = np.random.default_rng(2)
    x = healthy()
    x[0] = 0.5 * np.sin(2 * np.pi * 50.05 * T) + 0.1 * np.sin(2 * np.pi * 150.15 * T)
    x[0] += 0.003 * rng.standard_normal(N)
    assert only_first(check(x, full_scale=full_scale), Defect.HUM)
    suspect = check(x, full_scale=full_scale, speed_hz=25.0)[0]
    assert suspect.status is Status.SUSPECT, "a shaft that turns with the grid makes that line too"


def test_a_motor_that_slips_behind_the_grid_is_no_hum() -> None:
    x = healthy()
    x[0] += (20 * np.sin(2 * np.pi * 49.3 * T)).astype(np.float32)
    assert check(x)[0].status is Status.VALID
