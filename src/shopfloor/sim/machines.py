"""Simulated machines: what a three-axis accelerometer on a bearing housing would measure.

A machine is a shaft with orders, blades, structural modes that colour noise, and a bearing whose
defects strike a mode once per passage. Load moves speed and level, as it does in a plant. Streams
run on without a seam: phases and filter states carry over from call to call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import sosfilt

Floats = npt.NDArray[np.floating[Any]]

FAULT_KINDS = ("outer_race", "inner_race", "ball", "unbalance", "misalignment", "looseness")
AXES = ("x", "y", "z")
"""Radial horizontal, radial vertical, axial."""

_ORDERS = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0])
_HEALTHY_SHARE = np.array([0.01, 1.0, 0.01, 0.3, 0.01, 0.12, 0.08, 0.05, 0.03])
_MISALIGNED_SHARE = np.array([0.0, 0.5, 0.0, 1.0, 0.0, 0.4, 0.2, 0.0, 0.0])
_LOOSE_SHARE = np.array([0.5, 0.5, 0.4, 0.6, 0.35, 0.5, 0.4, 0.35, 0.3])
_RADIAL_AND_AXIAL = np.array([1.0, 0.8, 0.35])
_SLIP_JITTER = 0.01
_BUMPS_PER_HOUR = 4.0


@dataclass(frozen=True)
class MachineSpec:
    """One kind of machine.

    orders: bearing fault orders BPFO, BPFI, BSF, FTF. velocity_mm_s: RMS of 1x when healthy.
    noise_m_s2: RMS of the noise floor. modes_hz: structural modes, the last is what impacts excite.
    """

    name: str
    speed_rpm: float
    orders: tuple[float, float, float, float]
    velocity_mm_s: float = 0.7
    noise_m_s2: float = 0.5
    modes_hz: tuple[float, float, float] = (420.0, 1350.0, 3100.0)
    blades: int = 7


MACHINES: tuple[MachineSpec, ...] = (
    MachineSpec("pump_1", 1480.0, (3.585, 5.415, 2.357, 0.398), 0.7, 0.5),
    MachineSpec("fan_2", 980.0, (3.053, 4.947, 1.994, 0.382), 1.1, 0.3,
                (310.0, 990.0, 2700.0), 9),
    MachineSpec("spindle_3", 2940.0, (7.18, 9.82, 3.02, 0.422), 0.4, 0.9,
                (510.0, 1800.0, 3900.0), 0),
    MachineSpec("conveyor_4", 735.0, (5.26, 7.74, 2.78, 0.405), 0.9, 0.25,
                (280.0, 1150.0, 2450.0), 4),
    MachineSpec("compressor_5", 1770.0, (3.05, 4.95, 1.99, 0.381), 1.0, 0.8,
                (460.0, 1500.0, 3400.0), 5),
    MachineSpec("mill_6", 2380.0, (6.72, 9.28, 2.93, 0.42), 0.6, 0.7,
                (390.0, 1250.0, 2950.0), 12),
)  # fmt: skip


@dataclass(frozen=True)
class MachineFault:
    """A defect; severity 1 is plain, 0.5 is early."""

    kind: str
    severity: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS:
            raise ValueError(f"fault {self.kind!r} is none of {', '.join(FAULT_KINDS)}")
        if not 0 < self.severity <= 10:
            raise ValueError(f"severity {self.severity:g} of {self.kind} is not in 0 to 10")


class MachineStream:
    """The signal of one machine, m/s^2, (3, n) float32 per call of `take`.

    load: 0 to 1; may be set between calls, as may `fault`.
    """

    def __init__(
        self,
        spec: MachineSpec,
        seed: int,
        *,
        sample_rate_hz: float = 10_000.0,
        fault: MachineFault | None = None,
        load: float = 0.7,
    ) -> None:
        self.spec, self.fault, self.load = spec, fault, load
        self.sample_rate_hz = sample_rate_hz
        self._rng = np.random.default_rng(seed)
        unit = np.random.default_rng([seed, 1])  # what makes this unit differ from its sisters
        self._order_phase = unit.uniform(0, 2 * np.pi, (3, len(_ORDERS)))
        self._axis_gain = np.exp(unit.normal(0, 0.15, 3))
        self._mode_gain = np.exp(unit.normal(0, 0.2, (3, len(spec.modes_hz))))
        self._slip = 1 - unit.uniform(0.003, 0.012)
        self._modes = [_mode(hz, 0.04, sample_rate_hz) for hz in spec.modes_hz]
        self._noise_state = [np.zeros((1, 3, 2)) for _ in self._modes]
        self._impact_state = np.zeros((1, 3, 2))
        self._turns = unit.uniform(0, 100)
        self._level_db = 0.0
        self._next_impact = 0.0
        self._cage = unit.uniform(0, 1)

    @property
    def speed_rpm(self) -> float:
        """Shaft speed at the present load: an induction motor slips by up to 1.5 %."""
        return self.spec.speed_rpm * (1 - 0.015 * self.load)

    def take(self, samples: int) -> npt.NDArray[np.float32]:
        """The next samples, (3, samples)."""
        rng, spec = self._rng, self.spec
        turns = self._turn(samples)
        # Temperature, product and grease: the level wanders by a decibel or so over minutes.
        self._level_db = 0.98 * self._level_db + rng.normal(0, 0.15)
        level = 10 ** (self._level_db / 20) * (0.85 + 0.3 * self.load)
        signal = self._tones(turns) * level
        noise = rng.standard_normal((3, samples)) * (spec.noise_m_s2 * level)
        signal += 0.5 * noise
        for k, sos in enumerate(self._modes):
            shaped, self._noise_state[k] = sosfilt(sos, noise, zi=self._noise_state[k])
            signal += 0.45 * self._mode_gain[:, k, None] * shaped
        impacts = self._impacts(turns, samples)
        if rng.random() < _BUMPS_PER_HOUR / 3600 * samples / self.sample_rate_hz:
            impacts[rng.integers(samples)] += 40 * spec.noise_m_s2 * rng.uniform(0.5, 2)
        struck = np.outer(self._mode_gain[:, -1], impacts)
        rung, self._impact_state = sosfilt(self._modes[-1], struck, zi=self._impact_state)
        signal += rung
        return signal.astype(np.float32)

    def _turn(self, samples: int) -> Floats:
        """Shaft turns at each sample; speed wobbles by a part in a thousand."""
        speed_hz = self.speed_rpm / 60 * (1 + self._rng.normal(0, 3e-4))
        turns = self._turns + speed_hz / self.sample_rate_hz * np.arange(1, samples + 1)
        self._turns = float(turns[-1]) if samples else self._turns
        return turns

    def _tones(self, turns: Floats) -> Floats:
        """Orders and blades, m/s^2."""
        spec, fault = self.spec, self.fault
        velocity = spec.velocity_mm_s * _HEALTHY_SHARE[None, :] * _RADIAL_AND_AXIAL[:, None]
        if fault is not None:
            extra = spec.velocity_mm_s * fault.severity
            if fault.kind == "unbalance":
                velocity[:, 1] += 3.0 * extra * np.array([1.0, 0.9, 0.15])
            elif fault.kind == "misalignment":
                velocity += 2.0 * extra * _MISALIGNED_SHARE * np.array([[0.6], [0.5], [1.0]])
            elif fault.kind == "looseness":
                velocity += 1.6 * extra * _LOOSE_SHARE * np.array([[0.7], [1.0], [0.4]])
        velocity *= self._axis_gain[:, None]
        speed_hz = self.speed_rpm / 60
        peak = math.sqrt(2) * 1e-3 * velocity * (2 * np.pi * speed_hz * _ORDERS)
        angle = 2 * np.pi * turns
        # amplitude * cos(a + phase) as two matrix products: much cheaper than (3, orders, n).
        basis = np.concatenate([np.cos(np.outer(_ORDERS, angle)), np.sin(np.outer(_ORDERS, angle))])
        weights = np.hstack([peak * np.cos(self._order_phase), -peak * np.sin(self._order_phase)])
        tones: Floats = weights @ basis
        if spec.blades:
            blade = 0.12 * spec.velocity_mm_s * 1e-3 * 2 * np.pi * speed_hz * spec.blades
            tones += np.outer(blade * self._axis_gain, np.cos(spec.blades * angle))
        return tones

    def _impacts(self, turns: Floats, samples: int) -> Floats:
        """One stroke per passage of the defect, split over the two samples nearest to it."""
        impacts = np.zeros(samples + 1)
        fault = self.fault
        bearing = {"outer_race": 0, "inner_race": 1, "ball": 2}
        if fault is None or fault.kind not in bearing or not samples:
            return impacts[:samples]
        row = bearing[fault.kind]
        order = self.spec.orders[row] * self._slip * (2 if row == 2 else 1)
        per_turn = (turns[-1] - turns[0]) / max(samples - 1, 1)
        count = int((turns[-1] - turns[0]) * order) + 2
        steps = (1 + self._rng.normal(0, _SLIP_JITTER, count)) / order
        at = self._next_impact + np.concatenate([[0.0], np.cumsum(steps)])
        at_turns = turns[0] + at
        inside = at_turns < turns[-1] + per_turn
        self._next_impact = float(at[~inside][0]) - samples * per_turn
        strokes = at_turns[inside]
        base = 15.0 * fault.severity * self.spec.noise_m_s2
        strength: Floats = base * (1 + 0.15 * self._rng.standard_normal(len(strokes)))
        if fault.kind == "inner_race":
            strength *= 1.2 * np.clip(0.35 + 0.65 * np.cos(2 * np.pi * strokes), 0.1, None)
        elif fault.kind == "ball":
            cage = 2 * np.pi * (strokes * self.spec.orders[3] * self._slip + self._cage)
            strength *= np.clip(0.4 + 0.6 * np.cos(cage), 0.1, None)
        position = np.clip((strokes - turns[0]) / per_turn, 0, samples - 1e-6)
        whole = position.astype(int)
        np.add.at(impacts, whole, strength * (1 - position + whole))
        np.add.at(impacts, whole + 1, strength * (position - whole))
        return impacts[:samples]


def _mode(hz: float, damping: float, rate_hz: float) -> Floats:
    """A structural mode with unit gain at its peak, as one second-order section."""
    theta = 2 * np.pi * hz / rate_hz
    radius = math.exp(-damping * theta)
    gain = (1 - radius) * math.sqrt(1 - 2 * radius * math.cos(2 * theta) + radius**2)
    peak = gain / 0.35  # as loud as the noise that it is driven with
    return np.array([[peak, 0.0, 0.0, 1.0, -2 * radius * math.cos(theta), radius**2]])
