"""A board is learned from the steps of its load, forgotten when it changed, and kept in a file."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shopfloor.sim.board_tree import ZONES, BoardTree
from shopfloor.sim.thermal_plant import BoardSpec, ThermalPlant, random_board
from shopfloor.thermal import board_file
from shopfloor.thermal.board import Board
from shopfloor.thermal.forecast import Trace
from shopfloor.thermal.heat_model import BoardConstants, Models
from shopfloor.thermal.learning import MODELS, BoardMemory, Learner
from shopfloor.thermal.sensors import Sensors
from shopfloor.thermal.trust import TrustSettings
from shopfloor.thermal.watchdog import Observer

sys.path.append(str(Path(__file__).parents[1] / "bench"))
from thermal_learning import errors, lessons

SPEC = random_board(4)
SENSOR: Any = SimpleNamespace(offset=0.3, noise=0.25)


def sink_tau_s(spec: BoardSpec) -> float:
    """At full fan; leakage slows it."""
    leakage = 1.0 - spec.leakage_w_per_celsius * spec.air_r
    return (spec.sink_c + spec.die_c) * spec.air_r / leakage


def taught(memory: BoardMemory, spec: BoardSpec, seed: int) -> Iterator[None]:
    return lessons(memory, spec, SENSOR, seed)


def off(memory: BoardMemory, spec: BoardSpec) -> float:
    """How wrong the learned time constant is, as a factor of at least 1; unknown: not at all."""
    board = memory.board
    return 1.0 if board is None else math.exp(abs(math.log(board.sink_tau_s / sink_tau_s(spec))))


@pytest.mark.parametrize("board", [4, 5, 6])
def test_an_hour_of_work_teaches_the_heat_sink(board: int) -> None:
    spec, memory = random_board(board), BoardMemory()
    assert str(memory) == "unknown" and memory.board is None
    seen = [memory.board is not None for _ in taught(memory, spec, seed=board)]
    assert len(seen) >= 3 and not seen[0] and seen[-1], "two steps must agree"
    assert memory.board is not None and off(memory, spec) < 1.3
    assert f"learned from {len(seen)} steps, tau {memory.board.sink_tau_s:.0f} s" in str(memory)
    assert memory.weight > 0.5
    assert memory.models().die_taus_s.size > BoardMemory().models().die_taus_s.size


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_another_heat_sink_is_noticed_and_learned_anew(factor: float) -> None:
    """What is left of the wrong one after three steps does not count for much any more."""
    other = replace(SPEC, sink_c=SPEC.sink_c * factor)
    memory = BoardMemory()
    for _ in taught(memory, other, seed=1):
        pass
    assert off(memory, other) < 1.3 and off(memory, SPEC) > 1.5
    again = taught(memory, SPEC, seed=2)
    for _ in range(3):
        next(again)
    assert memory.board is None or memory.weight < 0.5 or off(memory, SPEC) < 1.35
    for _ in again:
        pass
    assert off(memory, SPEC) < 1.3


def test_a_crossing_a_minute_ahead_on_a_known_board() -> None:
    """The whole distribution, and how it compares with an unknown board, is in the bench."""
    learned = np.abs(errors((1.0, 3.0), 5, seed=5, with_changes=False))[:, 1]
    assert np.isfinite(learned).all()
    assert np.mean(learned <= 10.0) >= 0.7


def test_what_was_learned_counts_by_its_weight_until_samples_outvote_it() -> None:
    wrong = BoardConstants(die_tau_s=6.0, sink_tau_s=1200.0, sink_to_die=4.5, doubt=0.05)
    models = Models.known(wrong, 0.7)
    prior = np.exp(models.log_weight - 0.5 * np.linalg.slogdet(models.precision)[1])
    assert prior.sum() == pytest.approx(1.0)
    assert prior[models.sink_to_die == 4.5][:3].sum() == pytest.approx(0.7)

    def celsius(at_s: float) -> float:
        return 60.0 + 25.0 * (1.0 - math.exp(-at_s / 100.0))

    trace = Trace()
    trace.models = models
    for i in range(2000):
        trace.add(i * 0.15, celsius(i * 0.15), 1.0)
    forecast = trace.forecast(300.0)
    assert forecast is not None
    assert forecast.at(60.0) == pytest.approx(celsius(360.0), abs=0.1)


class Bath:
    """One sample a second of a board whose load the test sets."""

    def __init__(self) -> None:
        self.plant = ThermalPlant(replace(SPEC, trip_celsius=500.0), 25.0, fps=8.0)
        self.memory = BoardMemory()
        self.learner = Learner(self.memory)
        self.now_s = 1000.0
        self.dice = random.Random(3)

    def run(self, seconds: int, fan: float | None = None) -> None:
        for _ in range(seconds):
            self.now_s += 1.0
            self.plant.step(1.0)
            celsius = round(self.plant.die_celsius + self.dice.gauss(0.0, 0.25))
            self.learner.add(self.now_s, celsius, self.plant.fan if fan is None else fan)
            self.learner.work()

    def step(self, fps: float) -> None:
        self.plant.fps = fps
        self.learner.load_changed(self.now_s)


def test_a_step_is_learned_once_it_was_watched_for_long_enough() -> None:
    bath = Bath()
    bath.run(300)
    bath.step(28.0)
    bath.run(590)
    assert bath.memory.windows == 0
    bath.run(30)
    assert bath.memory.windows == 1
    bath.run(1000)
    assert bath.memory.windows == 1, "nothing new happened"


def test_the_next_step_ends_the_last_one() -> None:
    bath = Bath()
    bath.run(300)
    bath.step(28.0)
    bath.run(200)
    bath.step(10.0)
    bath.run(20)
    assert bath.memory.windows == 1


def test_steps_without_a_load_teach_no_board() -> None:
    bath = Bath()
    for _ in range(4):
        bath.run(300)
        bath.step(bath.plant.fps)
    bath.run(700)
    assert bath.memory.windows == 0, "the line stood, a slow heat sink looks the same"


@pytest.mark.parametrize("spoilt", ["too soon", "another change", "no fan", "no samples"])
def test_what_tells_nothing_is_not_learned(spoilt: str) -> None:
    bath = Bath()
    fan = math.nan if spoilt == "no fan" else None
    bath.run(300, fan)
    bath.step(28.0)
    bath.run(60, fan)
    if spoilt == "too soon":
        for fps in (10.0, 28.0):
            bath.step(fps)
            bath.run(60)
        bath.learner.disturbed(bath.now_s)
    if spoilt == "another change":
        bath.learner.disturbed(bath.now_s)
    if spoilt == "no samples":
        bath.now_s += 5000.0
    bath.run(700, fan)
    assert bath.memory.windows == 0


def test_the_observer_learns_and_says_so(tmp_path: Path) -> None:
    plant = ThermalPlant(replace(SPEC, trip_celsius=500.0), 25.0, fps=8.0)
    tree, memories = BoardTree(tmp_path, plant), dict[str, BoardMemory]()
    sensors = Sensors(tmp_path / "sys", ignore=[zone for zone in ZONES if zone != "gpu-thermal"])
    observer = Observer(sensors, Board(tmp_path), None, TrustSettings(), memories)
    learned_at = []
    for i in range(2350):
        if i in (400, 1100):
            plant.fps = 36.0 - plant.fps
            observer.load_changed()
        plant.step(0.5)
        tree.update()
        seen = observer.observe(i * 0.5)
        if observer.take_learnt():
            learned_at.append(i)
    assert len(learned_at) == 2, "as many as there were steps"
    assert memories["gpu-thermal"].windows == 2
    assert next(zone for zone in seen.zones if zone.sensor.name == "gpu-thermal").board == str(
        memories["gpu-thermal"]
    )
    assert off(memories["gpu-thermal"], SPEC) < 1.5


def memory_of(seed: int) -> BoardMemory:
    evidence = np.random.default_rng(seed).normal(0.0, 20.0, MODELS)
    evidence[seed] += 200.0
    return BoardMemory(evidence - evidence.max(), 5, 0.7)


def test_a_file_brings_back_what_was_known(tmp_path: Path) -> None:
    path, memory = tmp_path / "watchdog" / "boards.json", memory_of(1)
    assert board_file.read(path) == {}
    board_file.write(path, board_file.to_json({"tj": memory, "new": BoardMemory()}))
    back = board_file.read(path)
    assert list(back) == ["tj"], "of the other nothing is known"
    assert back["tj"].windows == 5 and back["tj"].weight == 0.7
    assert back["tj"].board is not None and memory.board is not None
    assert back["tj"].board.sink_tau_s == pytest.approx(memory.board.sink_tau_s, rel=1e-2)
    board_file.write(path, board_file.to_json({}))
    assert board_file.read(path) == {} and list(path.parent.iterdir()) == [path]


def test_a_file_that_is_cut_off_or_foreign_is_none(tmp_path: Path) -> None:
    path = tmp_path / "boards.json"
    text = board_file.to_json({"tj": memory_of(2)})
    content = json.loads(text)
    zone = content["zones"]["tj"]
    wrong: list[object] = [
        *(text[: len(text) * part // 7] for part in range(7)),
        "[" * 20_000, "null", "[]", '{"zones": {}}', "\x00" * 50, "x" * 1_000_001,
        {**content, "format": 0}, {**content, "grid": [1.0]}, {**content, "zones": [zone]},
        *(
            {**content, "zones": {"tj": {**zone, **change}}}
            for change in (
                {"evidence": zone["evidence"][1:]}, {"evidence": [math.nan] * MODELS},
                {"evidence": ["x"] * MODELS}, {"windows": 0}, {"windows": None}, {"weight": 1.0},
                {"weight": 0.0}, {"weight": math.nan},
            )
        ),
    ]  # fmt: skip
    for made in wrong:
        path.write_text(made if isinstance(made, str) else json.dumps(made), "utf-8")
        with pytest.raises(ValueError, match=r"boards\.json"):
            board_file.read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"boards\.json"):
        board_file.read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=r"boards\.json"):
        board_file.read(path)
