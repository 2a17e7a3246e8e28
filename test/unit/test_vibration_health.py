"""Baselines, tiers and diagnoses on simulated machines, window by window."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shopfloor.sim.machines import MACHINES, MachineFault, MachineStream
from shopfloor.vibration.analysis import Analyser, Speed, SpeedSource, WindowFeatures
from shopfloor.vibration.baseline import MIN_WINDOWS, Baseline, BaselineState, speed_bin
from shopfloor.vibration.bearing import BearingOrders
from shopfloor.vibration.diagnosis import Fault
from shopfloor.vibration.health import Health, HealthLimits, SensorHealth, Tier
from shopfloor.vibration.machines import Machine
from shopfloor.vibration.severity import Zone, ZoneLimits
from shopfloor.vibration.signal import Defect, Quality, Status, Unit, Window

SPEC = MACHINES[0]
N = 10_000
ZONES = {("2", "rigid"): ZoneLimits("2", "rigid", 1.4, 2.8, 4.5, ("s", "s", "s"))}
MACHINE = Machine("m", SPEC.speed_rpm, BearingOrders(*SPEC.orders), ("2", "rigid"), ("s",))
ANALYSER = Analyser({"m": MACHINE}, ZONES)
LIMITS = HealthLimits(persistence=10, watch_windows=5, learn_windows=60)


class Rig:
    """A machine, its monitor, and time."""

    def __init__(self, folder: Path | None = None, limits: HealthLimits = LIMITS) -> None:
        self.stream = MachineStream(SPEC, 21)
        self.health = SensorHealth("m", "s", limits, folder=folder)
        self.k = 0

    def features(self, **changes: object) -> WindowFeatures:
        window = Window(
            "m", "s", "mount", self.k * 10**9, self.k, self.k, 1e4, ("x", "y", "z"),
            Unit.ACCELERATION, self.stream.take(N),
        )  # fmt: skip
        self.k += 1
        window = replace(window, **changes)  # type: ignore[arg-type]
        speed = Speed(self.stream.speed_rpm, SpeedSource.MEASURED)
        return ANALYSER.analyse([window], [speed])[0]

    def run(self, windows: int, **changes: object) -> Health:
        for _ in range(windows):
            health = self.health.update(self.features(**changes), ANALYSER.bands_hz)
        return health


@pytest.fixture(scope="module")
def learned() -> Rig:
    made = Rig()
    made.run(LIMITS.learn_windows)
    return made


@pytest.fixture
def rig(learned: Rig) -> Rig:
    """A copy of one learned rig: learning takes most of the time here."""
    return copy.deepcopy(learned)


def test_learns_then_is_normal() -> None:
    rig = Rig()
    health = rig.run(10)
    assert (health.tier, health.baseline) == (Tier.UNKNOWN, BaselineState.LEARNING)
    assert "learning, 10 of 60" in health.reason
    health = rig.run(90)
    assert (health.tier, health.baseline) == (Tier.NORMAL, BaselineState.FROZEN)
    assert health.diagnosis.fault is Fault.HEALTHY
    assert health.zone is Zone.A
    assert health.watch_score < health.watch_threshold
    assert abs(health.act_score) < 3


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("outer_race", Fault.OUTER_RACE),
        ("inner_race", Fault.INNER_RACE),
        ("ball", Fault.ROLLING_ELEMENT),
        ("unbalance", Fault.UNBALANCE),
        ("misalignment", Fault.MISALIGNMENT),
        ("looseness", Fault.LOOSENESS),
    ],
)
def test_each_fault_is_named_and_asks_for_a_person(rig: Rig, kind: str, fault: Fault) -> None:
    rig.stream.fault = MachineFault(kind, 1.0)
    health = rig.run(15)
    assert health.diagnosis.fault is fault, health.diagnosis
    assert health.diagnosis.margin >= health.diagnosis.margin_required
    assert health.tier >= Tier.INSPECT, health.reason
    assert "dB" in health.contributions[0].text
    assert sum(c.share for c in health.contributions) <= 1 + 1e-6


def test_a_large_change_drafts_a_work_order_and_ends_with_its_cause(rig: Rig) -> None:
    rig.stream.fault = MachineFault("outer_race", 3.0)
    health = rig.run(15)
    assert health.tier is Tier.WORK_ORDER
    assert "outer race" in health.reason
    assert health.act_persisted_s >= 8
    rig.stream.fault = None
    assert rig.run(15).tier is Tier.NORMAL


def test_a_link_that_loses_blocks_keeps_nobody_from_being_asked(rig: Rig) -> None:
    """Every fourth window is lost: it counts neither way, and how long it lasts is told in full."""
    rig.stream.fault = MachineFault("outer_race", 3.0)
    lost = Quality(Status.UNKNOWN, Defect.GAP, "2 blocks lost")
    for k in range(40):
        health = rig.run(1, clock=lost) if k % 4 == 3 else rig.run(1)
        assert (health.tier is Tier.UNKNOWN) == (k % 4 == 3)
    health = rig.run(1)
    assert health.tier is Tier.WORK_ORDER, health.reason
    assert health.act_persisted_s > 2 * LIMITS.persistence
    rig.run(LIMITS.persistence, clock=lost)
    assert rig.run(1).tier < Tier.INSPECT, "nobody knows what was in between"


def test_a_drive_between_two_speeds_is_watched_at_both() -> None:
    rig, limits = Rig(), replace(LIMITS, learn_windows=30)
    rig.health = SensorHealth("m", "s", limits)
    slow = replace(SPEC, speed_rpm=SPEC.speed_rpm - 300)
    for spec in (SPEC, slow):
        rig.stream.spec = spec
        rig.run(limits.learn_windows)
    rig.stream.fault = MachineFault("outer_race", 3.0)
    names = set()
    for k in range(15):
        rig.stream.spec = slow if k % 5 else SPEC
        health = rig.run(1)
        names.add(health.bin_name)
    assert len(names) == 2 and health.tier >= Tier.INSPECT, health.reason


def test_zone_d_asks_for_a_person_though_it_was_learned_so() -> None:
    rig = Rig()
    rig.stream.fault = MachineFault("unbalance", 6.0)
    health = rig.run(LIMITS.learn_windows + 2)
    assert health.zone is Zone.D and health.tier <= Tier.LOG
    health = rig.run(LIMITS.persistence)
    assert health.tier is Tier.INSPECT and "zone D" in health.reason, health.reason


def test_bumps_ask_for_nobody(rig: Rig) -> None:
    for k in range(60):
        features = rig.features()
        if k % 7 == 0:
            data = features.window.data.copy()
            data[:, 5000:5020] += 80
            window = replace(features.window, data=data)
            features = ANALYSER.analyse([window], [features.speed])[0]
        health = rig.health.update(features, ANALYSER.bands_hz)
        assert health.tier <= Tier.LOG, health.reason


def test_what_is_not_trusted_is_unknown_and_one_window_mends_it(rig: Rig) -> None:
    broken = Quality(Status.UNKNOWN, Defect.GAP, "2 blocks lost")
    health = rig.run(1, clock=broken)
    assert health.tier is Tier.UNKNOWN and "2 blocks lost" in health.reason
    assert health.diagnosis.fault is Fault.ABSTAIN
    assert math.isnan(health.watch_score) and health.zone is Zone.UNKNOWN
    assert rig.run(1).tier is Tier.NORMAL


@pytest.mark.parametrize("kind", ["outer_race", "unbalance"])
def test_a_diagnosis_ends_with_the_tachometer(rig: Rig, kind: str) -> None:
    """Neither what was heard before nor a nominal speed stands for a measured one."""
    rig.stream.fault = MachineFault(kind, 2.0)
    named = rig.run(8).diagnosis.fault
    assert named in (Fault.OUTER_RACE, Fault.UNBALANCE)
    for speed in (Speed(SPEC.speed_rpm, SpeedSource.NOMINAL), Speed()):
        found = ANALYSER.analyse([rig.features().window], [speed])[0]
        diagnosis = rig.health.update(found, ANALYSER.bands_hz).diagnosis
        assert diagnosis.fault is Fault.ABSTAIN and "not measured" in diagnosis.text
    assert rig.run(1).diagnosis.fault is named, "the tachometer is back"


def test_no_bearing_is_named_with_the_scores_of_windows_before(rig: Rig) -> None:
    rig.stream.fault = MachineFault("outer_race", 1.0)
    assert rig.run(8).diagnosis.fault is Fault.OUTER_RACE
    blind = replace(rig.features(), evidence=None)
    assert rig.health.update(blind, ANALYSER.bands_hz).diagnosis.fault is not Fault.OUTER_RACE


def test_no_diagnosis_without_a_measured_speed(rig: Rig) -> None:
    rig.stream.fault = MachineFault("outer_race", 2.0)
    features = rig.features()
    for speed in (Speed(), Speed(SPEC.speed_rpm, SpeedSource.NOMINAL)):
        fresh = SensorHealth("m", "s", LIMITS)
        found = ANALYSER.analyse([features.window], [speed])[0]
        health = fresh.update(found, ANALYSER.bands_hz)
        assert health.diagnosis.fault is Fault.ABSTAIN
        assert "speed" in health.diagnosis.text


def test_a_speed_bin_without_a_baseline_is_unknown(rig: Rig) -> None:
    rig.stream.spec = replace(SPEC, speed_rpm=2000.0)
    health = rig.run(1)
    assert health.tier is Tier.UNKNOWN and health.bin_name == "1950-2050 rpm"


def test_bins_hold_on_to_their_edges() -> None:
    assert speed_bin(1480, 100) == "1450-1550 rpm"
    assert speed_bin(1555, 100, "1450-1550 rpm") == "1450-1550 rpm"
    assert speed_bin(1565, 100, "1450-1550 rpm") == "1550-1650 rpm"
    assert speed_bin(math.nan, 100) == "speed unknown"


def test_baselines_survive_a_restart_and_a_broken_file_does_not_stop_one(tmp_path: Path) -> None:
    first = Rig(tmp_path)
    first.run(LIMITS.learn_windows)
    second = Rig(tmp_path)
    health = second.run(1)
    assert (health.tier, health.baseline) == (Tier.NORMAL, BaselineState.FROZEN)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(path.read_text()[:500])
    third = Rig(tmp_path)
    assert third.run(1).tier is Tier.UNKNOWN
    assert path.name in third.health.problems[0]


def test_learn_freeze_and_reset_by_hand(tmp_path: Path) -> None:
    rig = Rig(tmp_path, replace(LIMITS, learn_automatically=False))
    assert rig.run(3).baseline is BaselineState.MISSING
    with pytest.raises(ValueError, match="nothing is being learned"):
        rig.health.freeze()
    rig.health.learn()
    rig.run(5)
    with pytest.raises(ValueError, match=f"at least {MIN_WINDOWS}"):
        rig.health.freeze()
    rig.run(MIN_WINDOWS)
    rig.health.freeze()
    assert rig.health.state() == (BaselineState.FROZEN, MIN_WINDOWS + 5)
    rig.health.reset()
    assert rig.health.state()[0] is BaselineState.MISSING
    assert not list(tmp_path.rglob("*.json"))


def test_a_baseline_is_the_same_after_a_round_trip(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.run(LIMITS.learn_windows)
    (path,) = tmp_path.rglob("*.json")
    loaded = Baseline.load(path)
    kept = rig.health._baselines[rig.health.bin_name]
    vector = np.nan_to_num(kept.median)
    assert loaded.distance(vector)[0] == pytest.approx(kept.distance(vector)[0])
    assert loaded.names == kept.names and loaded.windows == LIMITS.learn_windows
