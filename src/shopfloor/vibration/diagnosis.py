"""What is wrong, from physics, with a margin over the runner-up, or ABSTAIN with the reason.

Bearing faults come from the combs in the envelope spectrum (see `bearing`), in standard deviations.
Shaft faults come from what the orders of the velocity spectrum have risen by since the baseline:
unbalance lifts 1x, misalignment 2x (and the axial direction), looseness many orders and halves.
A probability is never given: none was measured.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from shopfloor.vibration.analysis import ORDERS, SpeedSource, WindowFeatures
from shopfloor.vibration.bearing import LINES
from shopfloor.vibration.features import Floats
from shopfloor.vibration.signal import Status


class Fault(enum.IntEnum):
    """The values of MachineHealth.DIAGNOSIS_*. The physics here does not tell CAGE from a rolling
    element's defect, so CAGE is never given."""

    UNKNOWN = 0
    ABSTAIN = 1
    HEALTHY = 2
    OUTER_RACE = 3
    INNER_RACE = 4
    ROLLING_ELEMENT = 5
    CAGE = 6
    UNBALANCE = 7
    MISALIGNMENT = 8
    LOOSENESS = 9

    @property
    def label(self) -> str:
        """As a technician reads it."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Diagnosis:
    """A fault and its margin over the runner-up, or ABSTAIN and why, in words."""

    fault: Fault
    margin: float
    margin_required: float
    text: str


@dataclass(frozen=True)
class DiagnosisLimits:
    """What a diagnosis needs.

    bearing_score, bearing_margin: standard deviations over combs without a fault line, and over the
        runner-up. shaft_rise_db, shaft_margin_db: rise over the baseline, and over the runner-up.
    windows: scores are averaged over this many.
    """

    bearing_score: float = 2.5
    bearing_margin: float = 2.0
    shaft_rise_db: float = 6.0
    shaft_margin_db: float = 3.0
    windows: int = 5


_BEARING = (Fault.OUTER_RACE, Fault.INNER_RACE, Fault.ROLLING_ELEMENT)
_SHAFT = (Fault.UNBALANCE, Fault.MISALIGNMENT, Fault.LOOSENESS)
_AXIAL = ("z", "axial", "a")
_MAX_RISE_DB = 30.0


class Diagnostician:
    """Diagnoses of one sensor; keeps the last windows' scores."""

    def __init__(self, limits: DiagnosisLimits | None = None) -> None:
        self.limits = limits or DiagnosisLimits()
        self._bearing: deque[Floats] = deque(maxlen=self.limits.windows)
        self._shaft: deque[Floats] = deque(maxlen=self.limits.windows)

    def update(self, features: WindowFeatures, rise_db: Floats | None) -> Diagnosis:
        """Diagnosis with this window.

        rise_db: (channels, orders) of ORDERS over the baseline; None without a baseline.
        """
        limits, speed = self.limits, features.speed
        if features.quality.status is Status.UNKNOWN:
            return self._abstain(f"signal not trusted: {features.quality.reason}")
        if not speed.rpm > 0 or speed.source in (SpeedSource.UNKNOWN, SpeedSource.NOMINAL):
            return self._abstain("shaft speed not measured")
        usable = features.usable
        evidence = features.evidence
        # What is not known of this window is not said with the scores of the windows before it.
        if rise_db is None:
            self._shaft.clear()
        else:
            self._shaft.append(shaft_scores(rise_db[usable], _axial(features)[usable]))
        if evidence is None or not np.isfinite(evidence.score[usable]).all():
            self._bearing.clear()
        else:
            # Every axis hears the bearing: their mean has less chance in it than the best of them.
            self._bearing.append(evidence.score[usable].mean(axis=0))
        found = []
        if self._bearing:
            scores = np.mean(self._bearing, axis=0)
            found.append(_decide(scores, _BEARING, limits.bearing_score, limits.bearing_margin))
        if self._shaft:
            rises = np.mean(self._shaft, axis=0)
            found.append(_decide(rises, _SHAFT, limits.shaft_rise_db, limits.shaft_margin_db))
        named = [d for d in found if d.fault not in (Fault.ABSTAIN, Fault.HEALTHY)]
        if named:
            best = max(named, key=lambda d: d.margin / d.margin_required)
            return self._worded(best, features)
        if any(d.fault is Fault.ABSTAIN for d in found):
            return min(found, key=lambda d: d.fault)
        if len(found) == 2:
            return Diagnosis(Fault.HEALTHY, math.nan, limits.bearing_margin,
                             "no fault line and no order stands out")  # fmt: skip
        return Diagnosis(Fault.ABSTAIN, math.nan, limits.bearing_margin,
                         "no bearing data" if self._shaft else
                         "no bearing line stands out; no baseline for the shaft" if found else
                         "no baseline")  # fmt: skip

    def _abstain(self, reason: str) -> Diagnosis:
        self._bearing.clear()
        self._shaft.clear()
        return Diagnosis(Fault.ABSTAIN, math.nan, self.limits.bearing_margin, reason)

    def _worded(self, diagnosis: Diagnosis, features: WindowFeatures) -> Diagnosis:
        """With the lines that it rests on."""
        evidence = features.evidence
        if diagnosis.fault not in _BEARING or evidence is None:
            return diagnosis
        row = _BEARING.index(diagnosis.fault)
        channel = int(np.nanargmax(evidence.score[:, row]))
        text = (
            f"{LINES[row]} at {evidence.frequency_hz[channel, row]:.1f} Hz and harmonics "
            f"{evidence.prominence_db[channel, row]:.0f} dB over the floor in "
            f"{features.window.channels[channel]}; {diagnosis.text}"
        )
        return Diagnosis(diagnosis.fault, diagnosis.margin, diagnosis.margin_required, text)


def shaft_scores(rise_db: Floats, axial: Floats) -> Floats:
    """Unbalance, misalignment, looseness in dB, (3,), from (channels, orders) over the baseline.

    axial: (channels,) of bool. The rule of thumb of every vibration chart (for example ISO 13373-3,
    annexes): 1x alone, radial: unbalance; 2x and axial: misalignment; halves and many: looseness.
    """
    rise = np.clip(np.nan_to_num(rise_db), -_MAX_RISE_DB, _MAX_RISE_DB)
    if not len(rise):
        return np.full(3, np.nan)
    at = {order: column for column, order in enumerate(ORDERS)}
    radial = rise[~axial.astype(bool)] if (~axial.astype(bool)).any() else rise
    one, two = radial[:, at[1.0]].max(), rise[:, at[2.0]].max()
    halves = np.median([rise[:, at[order]].max() for order in (0.5, 1.5, 2.5)])
    high = np.median([rise[:, at[order]].max() for order in (3.0, 4.0, 5.0)])
    loose = min(halves, max(halves + high, 0) / 2)
    return np.array([one - max(two, loose, 0.0), two - max(loose, one - two, 0.0), loose])


def _axial(features: WindowFeatures) -> Floats:
    return np.array([name.lower() in _AXIAL for name in features.window.channels], dtype=float)


def _decide(
    scores: Floats, faults: tuple[Fault, ...], needed: float, margin_needed: float
) -> Diagnosis:
    order = np.argsort(scores)
    best, second = int(order[-1]), int(order[-2])
    margin = float(scores[best] - scores[second])
    unit = "sd" if faults is _BEARING else "dB"
    if not scores[best] >= needed:
        return Diagnosis(Fault.HEALTHY, margin, margin_needed, "nothing stands out")
    if margin < margin_needed:
        return Diagnosis(
            Fault.ABSTAIN, margin, margin_needed,
            f"too close: {faults[best].label} {scores[best]:.1f}, {faults[second].label} "
            f"{scores[second]:.1f} {unit}",
        )  # fmt: skip
    text = f"{faults[best].label} {scores[best]:.1f} {unit}, next {scores[second]:.1f}"
    return Diagnosis(faults[best], margin, margin_needed, text)
