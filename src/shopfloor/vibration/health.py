"""Health of one sensor's place on a machine: watch sees any change early, act asks for a person.

watch: Mahalanobis distance of all features from the baseline. It only ever writes down.
act: the largest rise, in dB over the baseline, of RMS, velocity, the highest band and kurtosis. It
asks for a person when it stays, so that a forklift that drives by asks for nobody. So does a fault
that the physics names with a margin, window after window, where watch agrees.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shopfloor.vibration.analysis import WindowFeatures
from shopfloor.vibration.baseline import (
    MIN_WINDOWS,
    Baseline,
    BaselineState,
    FeatureName,
    baseline_file,
    feature_names,
    feature_vector,
    order_rise_db,
    speed_bin,
)
from shopfloor.vibration.diagnosis import Diagnosis, DiagnosisLimits, Diagnostician, Fault
from shopfloor.vibration.features import Floats
from shopfloor.vibration.severity import Zone
from shopfloor.vibration.signal import Defect, Quality, Status


class Tier(enum.IntEnum):
    """The values of MachineHealth.TIER_*."""

    UNKNOWN = 0
    NORMAL = 1
    LOG = 2
    INSPECT = 3
    WORK_ORDER = 4


@dataclass(frozen=True)
class HealthLimits:
    """When a change is one.

    act_db: rise that asks for a person, work_order_db: that drafts a work order even without a
    diagnosis; each when `persistence` of the last windows agree (four fifths of them).
    watch_windows: watch logs when three fifths of so many windows are over the threshold.
    learn_windows: frozen by itself after so many; 0: only on request.
    """

    act_db: float = 6.0
    work_order_db: float = 12.0
    persistence: int = 30
    watch_windows: int = 10
    speed_bin_rpm: float = 100.0
    learn_windows: int = 300
    learn_automatically: bool = True


@dataclass(frozen=True)
class Contribution:
    """What one feature contributes, for a technician."""

    name: FeatureName
    value: float
    baseline: float
    change_db: float
    share: float
    text: str


@dataclass(frozen=True)
class Health:
    """What is known of a sensor's place after a window."""

    tier: Tier
    reason: str
    watch_score: float
    watch_threshold: float
    act_score: float
    act_threshold: float
    act_persisted_s: float
    zone: Zone
    contributions: tuple[Contribution, ...]
    diagnosis: Diagnosis
    quality: Quality
    speed_rpm: float
    bin_name: str
    baseline: BaselineState
    baseline_windows: int


class SensorHealth:
    """Health of one sensor, window by window.

    folder: where frozen baselines are kept; None: only in memory.
    """

    def __init__(
        self,
        machine_id: str,
        sensor_id: str,
        limits: HealthLimits | None = None,
        diagnosis: DiagnosisLimits | None = None,
        folder: Path | None = None,
    ) -> None:
        self.machine_id, self.sensor_id = machine_id, sensor_id
        self.limits = limits or HealthLimits()
        self.bin_name = ""
        self.problems: list[str] = []
        self._folder = folder
        self._diagnostician = Diagnostician(diagnosis)
        self._baselines: dict[str, Baseline] = {}
        self._learned: dict[str, list[Floats]] = {}
        self._targets: dict[str, int] = {}
        self._looked_for: set[str] = set()
        self._act: deque[float] = deque(maxlen=self.limits.persistence)
        self._above_since_s: float | None = None
        self._zone_d: deque[bool] = deque(maxlen=self.limits.persistence)
        self._watch: deque[bool] = deque(maxlen=self.limits.watch_windows)
        self._named: deque[Fault] = deque(maxlen=self.limits.persistence)
        self._unjudged = 0
        self._names: tuple[FeatureName, ...] = ()

    def update(self, features: WindowFeatures, bands_hz: tuple[tuple[float, float], ...]) -> Health:
        """Take in a window and judge it; a window that is not trusted is UNKNOWN."""
        if features.quality.status is Status.UNKNOWN:
            self._leave_out()
            return self._unknown(features, f"signal not trusted: {features.quality.reason}")
        bin_name = speed_bin(features.speed.rpm, self.limits.speed_bin_rpm, self.bin_name)
        self.bin_name = bin_name
        window = features.window
        names = feature_names(window.channels, bands_hz, window.unit.symbol)
        vector = feature_vector(features)
        self._names = names
        baseline = self._baseline(bin_name, names)
        if baseline is None:
            self._learn(bin_name, names, vector)
            baseline = self._baselines.get(bin_name)
        if baseline is None:
            state, count = self.state(bin_name)
            needed = self._targets.get(bin_name, MIN_WINDOWS)
            what = f"learning, {count} of {needed} windows" if count else "no baseline"
            self._leave_out()
            return self._unknown(features, f"{what} for {bin_name}", state, count)
        return self._judge(features, baseline, vector)

    def silent(self, reason: str) -> Health:
        """The health of a sensor that says nothing."""
        self._forget()
        state, count = self.state()
        quality = Quality(Status.UNKNOWN, Defect.NONE, reason)
        diagnosis = Diagnosis(Fault.ABSTAIN, math.nan, math.nan, reason)
        return Health(
            Tier.UNKNOWN, reason, math.nan, math.nan, math.nan, self.limits.act_db, 0.0,
            Zone.UNKNOWN, (), diagnosis, quality, math.nan, self.bin_name, state, count,
        )  # fmt: skip

    # Baselines ----------------------------------------------------------------------------------

    def state(self, bin_name: str = "") -> tuple[BaselineState, int]:
        """State of a bin's baseline (the present bin's) and windows learned."""
        bin_name = bin_name or self.bin_name
        frozen = self._baseline(bin_name, self._names) if bin_name else None
        if frozen is not None:
            return BaselineState.FROZEN, frozen.windows
        if bin_name in self._learned:
            return BaselineState.LEARNING, len(self._learned[bin_name])
        return BaselineState.MISSING, 0

    def learn(self, bin_name: str = "", windows: int = 0) -> None:
        """Learn from now on, afresh; freeze by itself after `windows`, 0: only on `freeze`."""
        for name in self._bins(bin_name):
            self._baselines.pop(name, None)
            self._learned[name] = []
            self._targets[name] = windows

    def freezable(self, bin_name: str = "") -> list[str]:
        """The bins that `freeze` would freeze. Raises ValueError where it would."""
        names = [name for name in self._bins(bin_name) if name in self._learned]
        if not names:
            raise ValueError(f"nothing is being learned for {bin_name or 'any bin'}")
        for name in names:
            if (count := len(self._learned[name])) < MIN_WINDOWS:
                text = f"{count} windows learned for {name}, at least {MIN_WINDOWS} are needed"
                raise ValueError(f"{self.sensor_id}: {text}")
        return names

    def freeze(self, bin_name: str = "") -> None:
        """Use what was learned. Raises ValueError where that is too little."""
        for name in self.freezable(bin_name):
            self._freeze(name)

    def reset(self, bin_name: str = "") -> None:
        """Forget, on disk too."""
        for name in self._bins(bin_name):
            self._looked_for.add(name)
            self._baselines.pop(name, None)
            self._learned.pop(name, None)
            self._targets.pop(name, None)
            if self._folder is not None:
                path = baseline_file(self._folder, self.machine_id, self.sensor_id, name)
                path.unlink(missing_ok=True)

    def _bins(self, bin_name: str) -> list[str]:
        if bin_name:
            return [bin_name]
        known = {*self._baselines, *self._learned, self.bin_name}
        return sorted(name for name in known if name)

    def _baseline(self, bin_name: str, names: tuple[FeatureName, ...]) -> Baseline | None:
        baseline = self._baselines.get(bin_name)
        if baseline is None and bin_name not in self._looked_for and self._folder is not None:
            self._looked_for.add(bin_name)
            path = baseline_file(self._folder, self.machine_id, self.sensor_id, bin_name)
            if path.exists() and bin_name not in self._learned:
                try:
                    baseline = Baseline.load(path)
                except ValueError as error:
                    self.problems.append(str(error))
        if baseline is not None and names and baseline.names != names:
            self.problems.append(f"baseline {bin_name}: other channels or features than now")
            baseline = None
            self._baselines.pop(bin_name, None)
        if baseline is not None:
            self._baselines[bin_name] = baseline
        return baseline

    def _learn(self, bin_name: str, names: tuple[FeatureName, ...], vector: Floats) -> None:
        if bin_name not in self._learned:
            if not self.limits.learn_automatically:
                return
            self._learned[bin_name] = []
            self._targets[bin_name] = self.limits.learn_windows
        learned = self._learned[bin_name]
        if learned and len(learned[0]) != len(vector):
            learned.clear()
        learned.append(vector)
        target = self._targets[bin_name]
        if target and len(learned) >= max(target, MIN_WINDOWS):
            self._freeze(bin_name)

    def _freeze(self, bin_name: str) -> None:
        baseline = Baseline.fit(self._names, np.array(self._learned[bin_name]))
        self._baselines[bin_name] = baseline
        del self._learned[bin_name]
        if self._folder is not None:
            try:
                baseline.save(
                    baseline_file(self._folder, self.machine_id, self.sensor_id, bin_name)
                )
            except OSError as error:
                self.problems.append(f"baseline not saved: {error}")

    # Judgement ----------------------------------------------------------------------------------

    def _judge(self, features: WindowFeatures, baseline: Baseline, vector: Floats) -> Health:
        limits = self.limits
        score, shares = baseline.distance(vector)
        change = baseline.change_db(vector)
        act, cause = self._act_index(baseline, change)
        at_s = features.window.stamp_ns / 1e9 + features.window.duration_s
        self._unjudged = 0
        self._act.append(act)
        if not act >= limits.act_db:
            self._above_since_s = None
        elif self._above_since_s is None:
            self._above_since_s = at_s
        self._zone_d.append(Zone.D in features.zones)
        self._watch.append(score >= baseline.threshold)
        channels = len(features.window.channels)
        diagnosis = self._diagnostician.update(features, order_rise_db(baseline, vector, channels))
        named = diagnosis.fault not in (Fault.UNKNOWN, Fault.ABSTAIN, Fault.HEALTHY)
        self._named.append(diagnosis.fault if named else Fault.UNKNOWN)
        tier, reason = Tier.NORMAL, "as learned"
        if sum(self._watch) >= 0.6 * limits.watch_windows:
            tier = Tier.LOG
            reason = f"changed: distance {score:.1f}, threshold {baseline.threshold:.1f}"
            if named and self._named.count(diagnosis.fault) >= 0.8 * limits.persistence:
                tier, reason = Tier.INSPECT, diagnosis.text
        if tier < Tier.INSPECT and sum(self._zone_d) >= 0.8 * limits.persistence:
            # Whatever was learned as normal: a machine may have been bad from its first day.
            tier, reason = Tier.INSPECT, _zone_text(features)
        if self._persisted(limits.act_db):
            tier, reason = Tier.INSPECT, cause
            if named or self._persisted(limits.work_order_db) or Zone.D in features.zones:
                tier = Tier.WORK_ORDER
                reason = f"{cause}; {diagnosis.text}" if named else cause
        return Health(
            tier=tier,
            reason=reason,
            watch_score=score,
            watch_threshold=baseline.threshold,
            act_score=act,
            act_threshold=limits.act_db,
            act_persisted_s=0.0 if self._above_since_s is None else at_s - self._above_since_s,
            zone=max(features.zones),
            contributions=_contributions(baseline, vector, change, shares),
            diagnosis=diagnosis,
            quality=features.quality,
            speed_rpm=features.speed.rpm,
            bin_name=self.bin_name,
            baseline=BaselineState.FROZEN,
            baseline_windows=baseline.windows,
        )

    @staticmethod
    def _act_index(baseline: Baseline, change_db: Floats) -> tuple[float, str]:
        """The largest rise among RMS, velocity, highest band and kurtosis, and what it is."""
        bands = [n.feature for n in baseline.names if n.feature.startswith("band ")]
        watched = ("rms", "velocity rms", "kurtosis", *bands[-1:])
        rows = [k for k, n in enumerate(baseline.names) if n.feature in watched]
        rises = change_db[rows]
        if not np.isfinite(rises).any():
            return math.nan, "no level known"
        best = rows[int(np.nanargmax(rises))]
        return float(change_db[best]), _text(baseline.names[best], float(change_db[best]), bands)

    def _leave_out(self) -> None:
        """A window that cannot be judged counts neither way; after many of them all begins anew.

        So a link that loses a block now and then, or a drive that changes its speed, cannot keep an
        alarm from ever being reached.
        """
        self._unjudged += 1
        if self._unjudged >= self.limits.persistence:
            self._forget()

    def _forget(self) -> None:
        for kept in (self._act, self._watch, self._named, self._zone_d):
            kept.clear()
        self._above_since_s = None

    def _persisted(self, threshold_db: float) -> bool:
        needed = self.limits.persistence
        above = sum(act >= threshold_db for act in self._act)
        return len(self._act) == needed and above >= 0.8 * needed

    def _unknown(
        self,
        features: WindowFeatures,
        reason: str,
        state: BaselineState | None = None,
        count: int = 0,
    ) -> Health:
        trusted = features.quality.status is not Status.UNKNOWN
        if state is None:
            state, count = self.state()
        return Health(
            tier=Tier.UNKNOWN,
            reason=reason,
            watch_score=math.nan,
            watch_threshold=math.nan,
            act_score=math.nan,
            act_threshold=self.limits.act_db,
            act_persisted_s=0.0,
            zone=max(features.zones, default=Zone.UNKNOWN) if trusted else Zone.UNKNOWN,
            contributions=(),
            diagnosis=self._diagnostician.update(features, None),
            quality=features.quality,
            speed_rpm=features.speed.rpm,
            bin_name=self.bin_name,
            baseline=state,
            baseline_windows=count,
        )


def _contributions(
    baseline: Baseline, vector: Floats, change_db: Floats, shares: Floats, most: int = 8
) -> tuple[Contribution, ...]:
    """The largest shares first."""
    bands = [n.feature for n in baseline.names if n.feature.startswith("band ")]
    found = []
    for k in np.argsort(-shares)[:most]:
        if not shares[k] > 0 or not math.isfinite(change_db[k]):
            continue
        name = baseline.names[k]
        found.append(
            Contribution(
                name,
                _linear(name, float(vector[k])),
                _linear(name, float(baseline.median[k])),
                float(change_db[k]),
                float(shares[k]),
                _text(name, float(change_db[k]), bands),
            )
        )
    return tuple(found)


def _zone_text(features: WindowFeatures) -> str:
    worst = int(np.nanargmax(features.velocity_rms_mm_s))
    velocity, channel = features.velocity_rms_mm_s[worst], features.window.channels[worst]
    return f"severity zone D: {velocity:.1f} mm/s ({channel})"


def _linear(name: FeatureName, decibels: float) -> float:
    if name.unit == "dB":
        return decibels
    return float(10 ** (decibels / (10 if name.feature.startswith("band ") else 20)))


def _text(name: FeatureName, change_db: float, bands: list[str]) -> str:
    what = name.feature
    if bands and what == bands[-1] and len(bands) > 1:
        what = "high-frequency band"
    return f"{what} {change_db:+.1f} dB ({name.channel})"
