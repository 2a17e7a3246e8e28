"""Bearing evidence on synthetic bearings of several geometries and speeds, and on real records."""

from __future__ import annotations

import csv
from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import resample_poly

from shopfloor.ros.paths import data_folder
from shopfloor.sim.machines import MACHINES, MachineFault, MachineSpec, MachineStream
from shopfloor.vibration.bearing import FAULTS, BearingOrders, EnvelopeAnalyser

RATE, N = 10_000.0, 10_000
ANALYSER = EnvelopeAnalyser(RATE, N)
KINDS = ("outer_race", "inner_race", "ball")
CWRU = BearingOrders.from_geometry(9, 7.94, 39.04)


def scores(machine: MachineSpec, fault: MachineFault | None, windows: int = 4) -> np.ndarray:
    stream = MachineStream(machine, 11, fault=fault)
    x = np.concatenate([stream.take(N) for _ in range(windows)])
    evidence = ANALYSER.evidence(
        ANALYSER.spectrum(x), BearingOrders(*machine.orders), stream.speed_rpm / 60
    )
    return evidence.score.mean(axis=0)


def test_orders_from_geometry() -> None:
    """The published orders of the 6205 at the drive end of the CWRU rig."""
    assert (CWRU.bpfo, CWRU.bpfi) == pytest.approx((3.585, 5.415), abs=1e-3)
    assert (CWRU.bsf, CWRU.ftf) == pytest.approx((2.357, 0.3983), abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((2, 7.9, 39.0), "not possible"), ((9, 40.0, 39.0), "not possible")],
)
def test_impossible_geometry_is_refused(arguments: tuple[int, float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BearingOrders.from_geometry(*arguments)
    with pytest.raises(ValueError, match="bpfo < bpfi"):
        BearingOrders(5.4, 3.6, 2.4, 0.4)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_each_fault_stands_out_on_every_machine(machine: MachineSpec) -> None:
    for row, kind in enumerate(KINDS):
        found = scores(machine, MachineFault(kind))
        assert found.argmax() == row, (kind, found)
        assert found[row] > 2.5
    assert scores(machine, None).max() < 2.0


def test_shaft_harmonics_and_mains_are_no_bearing_fault() -> None:
    """2 x BSF of the 6203 is 3.99 x shaft speed: strong shaft harmonics must not look like it."""
    machine = MACHINES[1]
    for kind in ("unbalance", "misalignment", "looseness"):
        assert scores(machine, MachineFault(kind, 2.0)).max() < 2.0, kind


def test_frequency_found_is_the_fault_line() -> None:
    stream = MachineStream(MACHINES[0], 3, fault=MachineFault("outer_race"))
    speed_hz = stream.speed_rpm / 60
    orders = BearingOrders(*MACHINES[0].orders)
    found = ANALYSER.evidence(ANALYSER.spectrum(stream.take(N)), orders, speed_hz)
    assert found.frequency_hz[:, 0] == pytest.approx(speed_hz * orders.bpfo, rel=0.02)
    assert (found.prominence_db[:, 0] > 10).all()


def test_a_window_too_short_for_the_speed_says_nothing() -> None:
    spectrum = ANALYSER.spectrum(MachineStream(MACHINES[0], 1).take(N))
    assert np.isnan(ANALYSER.evidence(spectrum, CWRU, 4.0).score).all()
    with pytest.raises(ValueError, match="not positive"):
        ANALYSER.evidence(spectrum, CWRU, 0.0)


def test_score_does_not_depend_on_the_level() -> None:
    x = MachineStream(MACHINES[0], 2, fault=MachineFault("inner_race")).take(N)
    a, b = (
        ANALYSER.evidence(ANALYSER.spectrum(x * np.float32(k)), CWRU, 24.4).score for k in (1, 1e3)
    )
    assert a == pytest.approx(b, abs=0.02)


def test_real_faults_are_told_apart() -> None:
    """Drive-end records of CWRU, two windows of each; all of them in ./run bench vibration."""
    folder = data_folder() / "cwru-drive-end"
    if not folder.is_dir():
        pytest.skip(f"no data: {folder} is missing (SHOPFLOOR_DATA)")
    names = {"OR": "outer race", "IR": "inner race", "B": "rolling element"}
    right = total = 0
    with (folder / "index.csv").open(encoding="utf-8") as file:
        records = [row for row in csv.DictReader(file) if row["fault"] in names]
    for row in records[::4]:
        ratio = Fraction(int(RATE), int(row["sample_rate_hz"]))
        x = np.load(folder / row["file"]).ravel()[: 2 * int(row["sample_rate_hz"])]
        x = resample_poly(x, ratio.numerator, ratio.denominator).reshape(2, N).astype(np.float32)
        found = ANALYSER.evidence(ANALYSER.spectrum(x), CWRU, float(row["rpm"]) / 60)
        right += sum(FAULTS[k] == names[row["fault"]] for k in found.score.argmax(axis=1))
        total += 2
    assert right / total > 0.7, f"{right} of {total}"
