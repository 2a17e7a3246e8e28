"""What goes wrong between a sensor and the graph, on a timetable: `KIND@START+DURATION`, seconds.

nan, nan_run: samples that are no numbers, scattered or in a row. flatline: the value stands still.
open_bias: the IEPE loop is open. saturation: clipped at full scale. unplugged: mains hum.
lost: every third block is missing. repeated: blocks come twice. backwards: a stamp goes back once a
second. jump: stamps jump by 40 ms once a second. time_zone: stamps are an hour off. second: stamps
are a second off. drift: the clock runs 3,000 ppm fast. silent: no blocks at all. format: sizes
contradict each other.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

ACQUISITION_FAULTS = (
    "nan", "nan_run", "flatline", "open_bias", "saturation", "unplugged", "lost", "repeated",
    "backwards", "jump", "time_zone", "second", "drift", "silent", "format",
)  # fmt: skip

_PATTERN = re.compile(
    r"(?:(?P<machine>[\w-]+):)?(?P<kind>[a-z_]+)@(?P<start>\d+(?:\.\d+)?)"
    r"(?:\+(?P<duration>\d+(?:\.\d+)?))?(?:\*(?P<severity>\d+(?:\.\d+)?))?"
)
_HEALTHY_BIAS_V = (11.2, 11.4, 10.9)


@dataclass(frozen=True)
class RawBlock:
    """A block before it is a message. copies: how often it is sent; 0: lost.

    claimed_samples: what its head says; None: the truth.
    """

    data: npt.NDArray[np.float32]
    sequence: int
    stamp_ns: int
    full_scale: float
    bias_v: tuple[float, ...] = _HEALTHY_BIAS_V
    copies: int = 1
    claimed_samples: int | None = None


@dataclass(frozen=True)
class ScheduledFault:
    """A fault of a machine or of its acquisition; `machine` empty: of all."""

    machine: str
    kind: str
    start_s: float
    duration_s: float
    severity: float

    def is_on(self, machine: str, at_s: float) -> bool:
        """Whether it is on for the machine at this time."""
        inside = self.start_s <= at_s < self.start_s + self.duration_s
        return inside and self.machine in ("", machine)


def parse_scheduled(text: str, kinds: tuple[str, ...]) -> ScheduledFault:
    """Read `[MACHINE:]KIND@START[+DURATION][*SEVERITY]`. Raises ValueError."""
    match = _PATTERN.fullmatch(text.replace(" ", ""))
    if match is None or match["kind"] not in kinds:
        raise ValueError(
            f"fault {text!r} is not [MACHINE:]KIND@START[+DURATION][*SEVERITY] such as "
            f"'outer_race@30*1.5'; kinds are {', '.join(kinds)}"
        )
    duration_s = float(match["duration"]) if match["duration"] else math.inf
    severity = float(match["severity"] or 1)
    if not duration_s > 0 or not 0 < severity <= 10:
        raise ValueError(f"fault {text!r}: duration must be above 0 s, severity above 0 to 10")
    machine = match["machine"] or ""
    return ScheduledFault(machine, match["kind"], float(match["start"]), duration_s, severity)


@dataclass
class Acquisition:
    """Spoils the blocks of one sensor; keeps what a fault needs from block to block."""

    seed: int
    sample_rate_hz: float = 10_000.0
    _rng: np.random.Generator = field(init=False)
    _drift_ns: float = 0.0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def spoil(self, block: RawBlock, kind: str) -> RawBlock:
        """The block as it looks with the fault `kind`. Raises ValueError on an unknown kind."""
        rng, data = self._rng, block.data
        channels, samples = data.shape
        length_ns = round(samples / self.sample_rate_hz * 1e9)
        once_a_second = block.sequence % max(1, round(1e9 / length_ns)) == 0
        if kind == "nan":
            spoiled = data.copy()
            spoiled[rng.random(data.shape) < 0.02] = np.nan
            return replace(block, data=spoiled)
        if kind == "nan_run":
            spoiled = data.copy()
            run = round(0.008 * self.sample_rate_hz)
            first = int(rng.integers(max(1, samples - run)))
            spoiled[rng.integers(channels), first : first + run] = np.nan
            return replace(block, data=spoiled)
        if kind == "flatline":
            return replace(block, data=np.repeat(data[:, :1], samples, axis=1))
        if kind == "open_bias":
            return replace(block, bias_v=(23.8, *block.bias_v[1:]))
        if kind == "saturation":
            scale = np.float32(3 * block.full_scale / max(float(np.abs(data).max()), 1e-6))
            limit = np.float32(block.full_scale)
            return replace(block, data=np.clip(data * scale, -limit, limit))
        if kind == "unplugged":
            return replace(block, data=self._hum(block, channels, samples))
        if kind == "lost":
            return replace(block, copies=0 if block.sequence % 3 == 0 else 1)
        if kind == "repeated":
            return replace(block, copies=2)
        if kind == "silent":
            return replace(block, copies=0)
        if kind == "format":
            return replace(block, claimed_samples=samples + 1)
        return replace(
            block, stamp_ns=block.stamp_ns + self._shift_ns(kind, once_a_second, length_ns)
        )

    def _shift_ns(self, kind: str, once_a_second: bool, length_ns: int) -> int:
        if kind == "backwards":
            return -350_000_000 if once_a_second else 0
        if kind == "jump":
            return 40_000_000 if once_a_second else 0
        if kind == "time_zone":
            return 3_600_000_000_000
        if kind == "second":
            return 1_000_000_000
        if kind == "drift":
            self._drift_ns += 3e-3 * length_ns
            return round(self._drift_ns)
        raise ValueError(f"no acquisition fault {kind!r}; kinds: {', '.join(ACQUISITION_FAULTS)}")

    def _hum(self, block: RawBlock, channels: int, samples: int) -> npt.NDArray[np.float32]:
        t = block.stamp_ns % 1_000_000_000 / 1e9 + np.arange(samples) / self.sample_rate_hz
        hum = np.sin(2 * np.pi * 50 * t) + 0.2 * np.sin(2 * np.pi * 150 * t + 0.5)
        noise = self._rng.standard_normal((channels, samples)) * 2e-5
        return ((3e-3 * hum + noise) * block.full_scale).astype(np.float32)
