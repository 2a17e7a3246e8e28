"""What a monitor knows of its machines, and its baselines by command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shopfloor.sim.machines import MACHINES, MachineStream
from shopfloor.vibration.analysis import Analyser, SpeedSource
from shopfloor.vibration.baseline import BaselineAction, BaselineState, checked_bin
from shopfloor.vibration.clock import ClockLimits
from shopfloor.vibration.diagnosis import DiagnosisLimits
from shopfloor.vibration.features import DEFAULT_BANDS_HZ
from shopfloor.vibration.health import HealthLimits, Tier
from shopfloor.vibration.machines import Machine
from shopfloor.vibration.monitoring import BlockRefused, Monitoring, Settings
from shopfloor.vibration.signal import Block, Unit

RATE, N = 4000.0, 4000
BIN = "1450-1550 rpm"
LEARN, FREEZE, RESET = BaselineAction.LEARN, BaselineAction.FREEZE, BaselineAction.RESET


class Floor:
    """Two sensors on one machine."""

    def __init__(self, folder: Path, machines: dict[str, Machine] | None = None) -> None:
        health = HealthLimits(learn_automatically=False)
        settings = Settings(1.0, DEFAULT_BANDS_HZ, ClockLimits(), health, DiagnosisLimits(),
                            folder, 3.0, 5.0, 8)  # fmt: skip
        self.monitoring = Monitoring(settings, machines or {})
        self.analyser = Analyser({}, {})
        self.streams = {
            name: MachineStream(MACHINES[0], k, sample_rate_hz=RATE)
            for k, name in enumerate(("a", "b"))
        }
        self.second = 0

    def run(self, seconds: int, *sensors: str) -> None:
        for _ in range(seconds):
            at_ns = (self.second + 1) * 10**9
            self.monitoring.hear_speed("m", at_ns, 1480.0, int(SpeedSource.MEASURED))
            for name in sensors or tuple(self.streams):
                data = self.streams[name].take(N)
                block = Block("m", name, self.second, at_ns, 0, RATE, ("x", "y", "z"),
                              Unit.ACCELERATION, data)  # fmt: skip
                for window in self.monitoring.add(block, 0):
                    speed = self.monitoring.speed(window)
                    found = self.analyser.analyse([window], [speed])[0]
                    self.monitoring.judge(found, at_ns)
            self.second += 1


def test_baselines_by_command_are_those_of_the_machine_that_is_named(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    monitoring = floor.monitoring
    assert monitoring.baseline_state("m") is BaselineState.UNKNOWN
    with pytest.raises(KeyError):
        monitoring.change_baseline("m", LEARN)
    floor.run(1)
    assert monitoring.baseline_state("m", BIN) is BaselineState.MISSING
    with pytest.raises(RuntimeError, match="nothing is being learned"):
        monitoring.change_baseline("m", FREEZE, BIN)
    monitoring.change_baseline("m", LEARN, BIN)
    floor.run(30)
    assert monitoring.baseline_state("m") is BaselineState.LEARNING
    assert monitoring.baseline_state("someone else") is BaselineState.UNKNOWN
    assert monitoring.change_baseline("m", FREEZE) == 30
    assert monitoring.baseline_state("m") is monitoring.baseline_state("m", BIN)
    assert monitoring.baseline_state("m") is BaselineState.FROZEN
    assert monitoring.baseline_state("m", "950-1050 rpm") is BaselineState.MISSING

    later = Floor(tmp_path)  # after a restart what lies on disk counts, too
    later.run(1)
    assert later.monitoring.baseline_state("m", BIN) is BaselineState.FROZEN
    assert later.monitoring.change_baseline("m", RESET, BIN) == 0
    assert later.monitoring.baseline_state("m", BIN) is BaselineState.MISSING
    assert not list(tmp_path.rglob("*.json"))


def test_one_sensor_with_too_little_keeps_all_from_being_frozen(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    floor.run(1)
    floor.monitoring.change_baseline("m", LEARN)
    floor.run(5, "b")
    floor.run(30, "a")
    with pytest.raises(RuntimeError, match=r"b: \d+ windows learned for .*, at least 30"):
        floor.monitoring.change_baseline("m", FREEZE)
    assert floor.monitoring.sensors["a"].health.state()[0] is BaselineState.LEARNING
    assert not list(tmp_path.rglob("*.json"))


def test_a_sensor_that_two_machines_claim_is_refused_until_one_is_silent(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    floor.run(2)
    other = Block("n", "a", 0, 10**9, 0, RATE, ("x",), Unit.ACCELERATION,
                  np.ones((1, N), np.float32))  # fmt: skip
    with pytest.raises(BlockRefused, match="'a' of 'n' is heard from 'm'"):
        floor.monitoring.add(other, 0)
    floor.run(1)
    assert floor.monitoring.sensors["a"].windows == 3, "the first machine goes on"
    assert floor.monitoring.silences(4 * 10**9, 0)
    assert floor.monitoring.add(other, 4 * 10**9), "moved to another machine"


def test_a_sensor_of_the_file_that_never_comes_makes_its_machine_unknown(tmp_path: Path) -> None:
    floor = Floor(tmp_path, {"m": Machine("m", sensors=("a", "c")), "n": Machine("n")})
    monitoring, second_ns = floor.monitoring, 10**9
    assert not monitoring.silences(0, 0)
    floor.run(2, "a")
    assert not monitoring.silences(3 * second_ns, 0), "not yet"
    monitoring.sensors["a"].heard_ns = 4 * second_ns
    assert [report.machine_id for report in monitoring.silences(4 * second_ns, 0)] == ["m"]
    assert not monitoring.silences(5 * second_ns, 0), "said once"
    heard = monitoring.sensors["a"]
    assert heard.latest is not None
    heard.latest = replace(heard.latest, tier=Tier.NORMAL)
    report = monitoring.report("m", 0)
    assert (report.sensor_id, report.health.tier) == ("c", Tier.UNKNOWN)
    assert "no block yet" in report.health.reason
    floor.streams["c"] = floor.streams["b"]
    floor.run(2, "c")
    assert not monitoring.missing and monitoring.sensors["c"].windows


def test_a_bin_that_is_none_is_refused(tmp_path: Path) -> None:
    for rpm_bin in ("speed unknown", BIN, "0-50 rpm"):
        assert checked_bin(rpm_bin, 100.0) == rpm_bin
    floor = Floor(tmp_path)
    floor.run(1)
    for nonsense in ("1400-1500 rpm", "fast", "1450-1650 rpm", "9" * 400 + "-1 rpm"):
        with pytest.raises(ValueError, match="100 rpm wide"):
            floor.monitoring.change_baseline("m", LEARN, nonsense)
    assert np.array_equal(list(floor.monitoring.sensors), ["a", "b"])
