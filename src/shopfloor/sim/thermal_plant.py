"""A board that heats: two thermal masses, a fan, a throttling governor, and its inference times.

    C_die  dT_die/dt  = P - (T_die - T_sink) / R_die
    C_sink dT_sink/dt = (T_die - T_sink) / R_die - (T_sink - T_hall) / R_air(fan)

P is idle power, switching power (inferences per second, times work, times voltage squared) and
leakage that grows with the die's temperature. The governor cuts the clock to `throttle_clock` at
the trip point and gives it back `throttle_hysteresis` below it, as hardware throttling does.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

FULL_FPS = 30.0


@dataclass(frozen=True)
class BoardSpec:
    """What a board is. Celsius, watts, kelvin per watt, joules per kelvin, milliseconds.

    idle_w to switching_w: power. throttle_clock: share of the highest clock. clock_bound: share of
    the inference time that scales with the clock. inference_ms: of full work at full clock.
    """

    trip_celsius: float = 97.0
    critical_celsius: float = 104.5
    throttle_clock: float = 0.3
    throttle_hysteresis_celsius: float = 6.0
    inference_ms: float = 28.0
    clock_bound: float = 0.8725
    jitter: float = 0.012
    idle_w: float = 5.0
    switching_w: float = 13.0
    leakage_w_per_celsius: float = 0.02
    die_r: float = 0.5
    die_c: float = 12.0
    air_r: float = 2.6
    sink_c: float = 90.0
    fan_start_celsius: float = 50.0
    fan_full_celsius: float = 78.0

    def fan(self, die_celsius: float) -> float:
        """Share of full speed, 0.3 to 1."""
        span = self.fan_full_celsius - self.fan_start_celsius
        return min(max(0.3 + 0.7 * (die_celsius - self.fan_start_celsius) / span, 0.3), 1.0)

    def air_resistance(self, fan: float) -> float:
        """From heat sink to hall."""
        return self.air_r / (0.4 + 0.6 * fan)

    def latency_ms(self, work: float, clock: float) -> float:
        """Of one inference; work: 1 is the full model at full input."""
        return self.inference_ms * work * (self.clock_bound / clock + 1.0 - self.clock_bound)

    def power_w(self, fps: float, work: float, clock: float, die_celsius: float) -> float:
        """At so many inferences a second asked, as far as they fit into it."""
        done = min(fps, 1e3 / self.latency_ms(work, clock)) if work > 0.0 else 0.0
        volts = 0.6 + 0.4 * clock
        switching = self.switching_w * done / FULL_FPS * work * volts**2
        return self.idle_w + switching + self.leakage_w_per_celsius * (die_celsius - 50.0)

    def settled(self, hall_celsius: float, fps: float, work: float) -> float:
        """Die temperature that is reached in the end at full clock, without throttling."""
        die = hall_celsius
        for _ in range(200):
            power = self.power_w(fps, work, 1.0, die)
            rise = power * (self.die_r + self.air_resistance(self.fan(die)))
            die += 0.5 * (hall_celsius + rise - die)
        return die


def throttling_from(hall_celsius: float, spec: BoardSpec) -> BoardSpec:
    """The board with the switching power at which full load throttles from that hall on."""
    low, high = 0.1, 200.0
    for _ in range(60):
        middle = (low + high) / 2.0
        board = replace(spec, switching_w=middle)
        if board.settled(hall_celsius, FULL_FPS, 1.0) < spec.trip_celsius:
            low = middle
        else:
            high = middle
    return replace(spec, switching_w=low)


def random_board(seed: int) -> BoardSpec:
    """Another board: other heat sink, fan, leakage, trip point and hall that makes it throttle."""
    dice = random.Random(seed)
    throttle_clock = dice.uniform(0.25, 0.5)
    trip = dice.choice([85.0, 90.0, 95.0, 97.0, 99.0])
    spec = BoardSpec(
        trip_celsius=trip,
        critical_celsius=trip + dice.uniform(6.0, 10.0),
        throttle_clock=throttle_clock,
        throttle_hysteresis_celsius=dice.uniform(3.0, 8.0),
        idle_w=dice.uniform(3.0, 8.0),
        leakage_w_per_celsius=dice.uniform(0.005, 0.04),
        die_r=dice.uniform(0.3, 0.9),
        die_c=dice.uniform(6.0, 25.0),
        air_r=dice.uniform(1.5, 3.5),
        sink_c=dice.uniform(40.0, 250.0),
        fan_start_celsius=dice.uniform(40.0, 60.0),
        fan_full_celsius=dice.uniform(70.0, 80.0),
        jitter=dice.uniform(0.008, 0.02),
    )
    return throttling_from(dice.uniform(29.0, 36.0), spec)


@dataclass
class ThermalPlant:
    """The board at work. `step` moves time on."""

    spec: BoardSpec
    hall_celsius: float = 24.0
    fps: float = FULL_FPS
    work: float = 1.0
    fan_works: bool = True

    def __post_init__(self) -> None:
        """A board that has been at work for long enough to be settled."""
        self.die_celsius = self.spec.settled(self.hall_celsius, self.fps, self.work)
        power = self.spec.power_w(self.fps, self.work, 1.0, self.die_celsius)
        self.sink_celsius = self.die_celsius - power * self.spec.die_r
        self.power_w = power
        self.is_throttled = False
        self.throttle_events = 0

    @property
    def clock(self) -> float:
        """Share of the highest clock."""
        return self.spec.throttle_clock if self.is_throttled else 1.0

    @property
    def fan_drive(self) -> float:
        """Share of full speed that the fan is asked for."""
        return self.spec.fan(self.die_celsius)

    @property
    def fan(self) -> float:
        """Share of full speed at which it turns."""
        return self.fan_drive if self.fan_works else 0.0

    @property
    def latency_ms(self) -> float:
        """Of one inference now, without jitter."""
        return self.spec.latency_ms(self.work, self.clock)

    @property
    def load(self) -> float:
        """Share of time that the accelerator works, 0..1."""
        return min(self.fps * self.latency_ms / 1e3, 1.0)

    def step(self, seconds: float) -> None:
        """Let so much time pass."""
        spec = self.spec
        steps = max(1, math.ceil(seconds / 0.5))
        dt = seconds / steps
        for _ in range(steps):
            self.power_w = spec.power_w(self.fps, self.work, self.clock, self.die_celsius)
            through = (self.die_celsius - self.sink_celsius) / spec.die_r
            out = (self.sink_celsius - self.hall_celsius) / spec.air_resistance(self.fan)
            self.die_celsius += dt * (self.power_w - through) / spec.die_c
            self.sink_celsius += dt * (through - out) / spec.sink_c
            self._govern()

    def _govern(self) -> None:
        spec = self.spec
        if not self.is_throttled and self.die_celsius >= spec.trip_celsius:
            self.is_throttled = True
            self.throttle_events += 1
        elif self.die_celsius < spec.trip_celsius - spec.throttle_hysteresis_celsius:
            self.is_throttled = False


def shift_hall_celsius(
    seconds: float, length_s: float, low: float = 24.0, high: float = 40.0
) -> float:
    """The hall over a shift: cool at both ends, hot for the quarter in the middle."""
    x = seconds / length_s
    if x < 0.0625 or x > 0.9375:
        return low
    if x < 0.375:
        return low + (high - low) * (1.0 - math.cos(math.pi * (x - 0.0625) / 0.3125)) / 2.0
    if x <= 0.625:
        return high
    return low + (high - low) * (1.0 + math.cos(math.pi * (x - 0.625) / 0.3125)) / 2.0
