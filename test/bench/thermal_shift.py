"""A simulated shift: hall 24 C, 40 C, 24 C, with and without the watchdog, faster than real time.

The watchdog sees nothing but the files of the simulated board and the inference times; its clock is
the simulation's. What it decides sets the board's load, as the inspector would.
"""

from __future__ import annotations

import math
import random
import tempfile
from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from shopfloor.sim.board_tree import BoardTree
from shopfloor.sim.thermal_plant import (
    BoardSpec,
    ThermalPlant,
    random_board,
    shift_hall_celsius,
    throttling_from,
)
from shopfloor.thermal.board import Board
from shopfloor.thermal.ladder import Ladder
from shopfloor.thermal.parameters import ThermalWatchdogParameters
from shopfloor.thermal.rungs import Cause
from shopfloor.thermal.sensors import Sensors
from shopfloor.thermal.trust import TrustSettings
from shopfloor.thermal.watchdog import Observer, Watchdog, WatchdogSettings

DEADLINE_MS = 1000.0 / 30.0
LATENCY_PERIOD_S = 0.1
PARAMETERS = ThermalWatchdogParameters(
    rung_names=("full", "576 px", "576 px, half rate", "nano, half rate", "hold"),
    rung_fps=(30.0, 30.0, 15.0, 15.0, 0.0),
    rung_p99_ms=(33.3, 33.3, 33.3, 33.3, 0.0),
    rung_loads=(1.0, 0.81, 0.405, 0.15, 0.0),
)
"""The shipped settings with a longer ladder."""

WORK = (1.0, 0.81, 0.81, 0.3, 0.0)
"""Work of one inference at each rung, as a share of the full model at full input."""


@dataclass(frozen=True)
class Announced:
    """A step down: when it was published, when it came, and whether it promises less."""

    at_s: float
    published_s: float
    rung: int
    promises_less: bool
    text: str


@dataclass
class Shift:
    """What came of it. Lists by rung; the curves have one value each `CURVE_S`."""

    board: str
    length_s: float
    trip_celsius: float
    due: list[int] = field(default_factory=lambda: [0] * len(WORK))
    missed: list[int] = field(default_factory=lambda: [0] * len(WORK))
    steps: list[tuple[float, int, int, str]] = field(default_factory=list)
    announced: list[Announced] = field(default_factory=list)
    rung: int = 0
    throttle_events: int = 0
    rungs_needed: int = 0
    false_faults: int = 0
    latency_p50_ms: float = math.nan
    latency_max_ms: float = 0.0
    curves: dict[str, array[float]] = field(default_factory=lambda: {k: array("d") for k in CURVES})

    @property
    def missed_at_30_fps(self) -> int:
        """Frames that came late or not at all while 30 fps were promised."""
        promised = zip(PARAMETERS.rung_fps, self.missed, strict=True)
        return sum(missed for fps, missed in promised if fps == 30.0)

    @property
    def notice_s(self) -> float:
        """The shortest notice of a promise that fell; infinity: none fell."""
        notices = [a.at_s - a.published_s for a in self.announced if a.promises_less]
        return min(notices, default=math.inf)

    @property
    def gap_s(self) -> float:
        """The shortest time between two steps."""
        times = [step[0] for step in self.steps]
        return min((b - a for a, b in pairwise(times)), default=math.inf)

    @property
    def superfluous(self) -> int:
        """Steps beyond down to the rung that 40 C need and up again."""
        return len(self.steps) - 2 * self.rungs_needed


CURVES = ("hours", "hall", "die", "rung", "latency", "missed")
CURVE_S = 10.0


def board_of(seed: int) -> BoardSpec:
    """Board 0 is the one of the first failure: 28 ms, throttled to 85 ms from 32 C on."""
    return throttling_from(32.0, BoardSpec()) if seed == 0 else random_board(seed)


def run_shift(
    seed: int,
    length_s: float,
    *,
    watchdog: bool,
    fan_fails_at_s: float = math.inf,
    tachometer: bool = True,
) -> Shift:
    """One shift of board `seed`; odd boards have sensors of whole degrees."""
    spec = board_of(seed)
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        run = _Run(seed, spec, length_s, watchdog, Path(folder), tachometer)
        return run.run(fan_fails_at_s)


class _Run:
    def __init__(
        self,
        seed: int,
        spec: BoardSpec,
        length_s: float,
        watchdog: bool,
        root: Path,
        tachometer: bool,
    ) -> None:
        self.spec, self.length_s = spec, length_s
        self.dice = random.Random(seed)
        self.plant = ThermalPlant(spec)
        coarse = {"resolution_celsius": 1.0, "noise_celsius": 0.25} if seed % 2 else {}
        self.tree = BoardTree(root, self.plant, seed=seed, tachometer=tachometer, **coarse)
        self.rungs = PARAMETERS.rungs()
        self.out = Shift(f"board {seed}", length_s, spec.trip_celsius)
        guard = spec.trip_celsius - PARAMETERS.guard_celsius
        self.out.rungs_needed = next(
            i for i, r in enumerate(self.rungs) if spec.settled(40.0, r.fps, WORK[i]) < guard
        )
        self.observer = Observer(Sensors(root / "sys"), Board(root), None, TrustSettings(), {})
        ladder = Ladder(self.rungs, PARAMETERS.ladder_settings())
        self.watchdog = Watchdog(ladder, WatchdogSettings()) if watchdog else None
        self.published: dict[int, float] = {}
        self.rung = 0
        self.frames = 0.0
        self.told_s = -math.inf
        self.missed_now = 0
        self.latencies: list[float] = []

    def run(self, fan_fails_at_s: float) -> Shift:
        period_s, now_s, next_curve_s = PARAMETERS.sample_period_s, 0.0, 0.0
        while now_s < self.length_s:
            now_s += period_s
            self.plant.hall_celsius = shift_hall_celsius(now_s, self.length_s)
            self.plant.fan_works = now_s < fan_fails_at_s
            self.plant.step(period_s)
            self.tree.update()
            if self.watchdog is not None:
                self._watch(self.watchdog, now_s)
            latency_ms = self._work(now_s, period_s)
            if now_s >= next_curve_s:
                next_curve_s += CURVE_S
                self._draw(now_s, latency_ms)
        out = self.out
        out.rung, out.throttle_events = self.rung, self.plant.throttle_events
        out.latency_p50_ms = sorted(self.latencies)[len(self.latencies) // 2]
        return out

    def _watch(self, watchdog: Watchdog, now_s: float) -> None:
        seen = self.observer.observe(now_s)
        verdict = watchdog.decide(now_s, seen)
        state = verdict.ladder
        self.out.false_faults += sum(zone.fault != 1 for zone in verdict.zones)
        if state.next_rung == state.rung:
            if state.rung == self.rung:
                self.published.clear()
        else:
            self.published.setdefault(state.next_rung, now_s)
        if state.rung == self.rung:
            return
        if state.rung > self.rung:
            before, after = self.rungs[self.rung], self.rungs[state.rung]
            published_s = self.published.get(state.rung, now_s)
            less = after.fps < before.fps or after.p99_ms > before.p99_ms
            step = Announced(now_s, published_s, state.rung, less, state.text)
            self.out.announced.append(step)
        cause = Cause(state.cause).name.lower()
        self.out.steps.append((now_s, self.rung, state.rung, f"{cause}: {state.text}"))
        self.published.clear()
        self.rung = state.rung
        self.plant.fps, self.plant.work = self.rungs[state.rung].fps, WORK[state.rung]
        self.observer.load_changed()

    def _work(self, now_s: float, period_s: float) -> float:
        """The frames of this period; returns the latest inference time."""
        base_ms = self.plant.latency_ms
        self.frames += self.plant.fps * period_s
        due, latency_ms = int(self.frames), math.nan
        self.frames -= due
        for i in range(due):
            latency_ms = base_ms * math.exp(self.dice.gauss(0.0, self.spec.jitter))
            late = latency_ms > DEADLINE_MS
            self.out.due[self.rung] += 1
            self.out.missed[self.rung] += late
            self.missed_now += late
            self.out.latency_max_ms = max(self.out.latency_max_ms, latency_ms)
            at_s = now_s - period_s + (i + 1) * period_s / due
            if self.watchdog is not None and at_s - self.told_s >= LATENCY_PERIOD_S:
                self.told_s = at_s
                self.watchdog.latency.add(at_s, latency_ms)
                self.watchdog.rate.add(at_s, "station", sum(self.out.due))
        if due:
            self.latencies.append(latency_ms)
        return latency_ms

    def _draw(self, now_s: float, latency_ms: float) -> None:
        values = (
            now_s / 3600.0,
            self.plant.hall_celsius,
            self.plant.die_celsius,
            float(self.rung),
            latency_ms,
            self.missed_now * 60.0 / CURVE_S,
        )
        for name, value in zip(CURVES, values, strict=True):
            self.out.curves[name].append(value)
        self.missed_now = 0


def _memory() -> str | None:
    """Files in memory where there is such a file system: the simulation writes many."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
