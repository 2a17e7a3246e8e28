"""What the vibration monitor finds and what it leaves alone: the sets of ./run bench vibration."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track
from scipy.signal import resample_poly
from table import Results

from shopfloor.ros.paths import data_folder
from shopfloor.sim.acquisition import Acquisition, RawBlock
from shopfloor.sim.machines import FAULT_KINDS, MACHINES, MachineFault, MachineSpec, MachineStream
from shopfloor.vibration.analysis import Analyser, Speed, SpeedSource, WindowFeatures
from shopfloor.vibration.baseline import Baseline, feature_names, feature_vector
from shopfloor.vibration.bearing import FAULTS, BearingOrders, EnvelopeAnalyser
from shopfloor.vibration.diagnosis import DiagnosisLimits
from shopfloor.vibration.health import HealthLimits, SensorHealth, Tier
from shopfloor.vibration.machines import Machine
from shopfloor.vibration.severity import ZoneLimits
from shopfloor.vibration.signal import Block, Defect, Status, Unit, Window
from shopfloor.vibration.windows import SensorStream

RATE, N = 10_000.0, 10_000
ZONES = {("2", "rigid"): ZoneLimits("2", "rigid", 1.4, 2.8, 4.5, ("", "", ""))}
STEP_NS = 100_000_000


def machines() -> dict[str, Machine]:
    return {
        spec.name: Machine(
            spec.name, spec.speed_rpm, BearingOrders(*spec.orders), ("2", "rigid"), ()
        )
        for spec in MACHINES
    }


# CWRU -----------------------------------------------------------------------------------------


def cwru(results: Results) -> None:
    """Fault type of 1 s windows. Nothing is learned, so every fault size is a held-out size."""
    folder = data_folder() / "cwru-drive-end"
    if not folder.is_dir():
        results.add("CWRU drive end", math.nan, "", note=f"not run: {folder} is missing")
        return
    orders = BearingOrders.from_geometry(9, 7.94, 39.04)
    analyser, limits = EnvelopeAnalyser(RATE, N), DiagnosisLimits()
    names = {"OR": FAULTS[0], "IR": FAULTS[1], "B": FAULTS[2]}
    rows = []
    with (folder / "index.csv").open(encoding="utf-8") as file:
        for record in csv.DictReader(file):
            ratio = Fraction(int(RATE), int(record["sample_rate_hz"]))
            raw = np.load(folder / record["file"]).ravel().astype(np.float64)
            x = resample_poly(raw, ratio.numerator, ratio.denominator).astype(np.float32)
            x = x[: len(x) // N * N].reshape(-1, N)
            score = analyser.evidence(analyser.spectrum(x), orders, float(record["rpm"]) / 60).score
            ordered = np.sort(score, axis=1)
            accepted = (ordered[:, 2] >= limits.bearing_score) & (
                ordered[:, 2] - ordered[:, 1] >= limits.bearing_margin
            )
            for best, sure in zip(score.argmax(axis=1), accepted, strict=True):
                said = FAULTS[best]
                rows.append((record["fault"], record["size_thou_inch"] or "-",
                             said == names.get(record["fault"]), bool(sure)))  # fmt: skip
    table = pd.DataFrame(rows, columns=["fault", "size", "right", "accepted"])
    faulty, healthy = table[table.fault != "normal"], table[table.fault == "normal"]
    sure = faulty[faulty.accepted]
    results.add("CWRU fault type, always answered", faulty.right.mean(), "share", limit=">= 0.80",
                note=f"{len(faulty)} windows of 60 records, 10 kHz, nothing trained")  # fmt: skip
    results.add("CWRU accepted diagnoses right", sure.right.mean(), "share", limit=">= 0.97",
                note="score 2.5 sd, margin 2 sd")  # fmt: skip
    results.add("CWRU coverage", len(sure) / len(faulty), "share", limit=">= 0.50")
    results.add("CWRU healthy windows accepted as a fault", healthy.accepted.mean(), "share",
                limit="0", note=f"{len(healthy)} windows")  # fmt: skip
    for (fault, size), group in faulty.groupby(["fault", "size"]):
        taken = group[group.accepted]
        results.add(
            f"CWRU {fault} {size}", group.right.mean(), "share",
            note=f"{len(group)} windows; accepted {len(taken) / len(group):.2f}, "
            f"of these right {taken.right.mean():.3f}" if len(taken) else
            f"{len(group)} windows; all abstained",
        )  # fmt: skip


# Detection on the synthetic set ---------------------------------------------------------------


@dataclass
class Plant:
    """Windows of one simulated machine and their features."""

    spec: MachineSpec
    analyser: Analyser

    def run(self, seed: int, count: int, fault: MachineFault | None) -> list[WindowFeatures]:
        """Windows at changing load, as `seed` draws it; the unit is the same machine."""
        stream = MachineStream(self.spec, 77, fault=fault)
        stream._rng = np.random.default_rng(seed)
        rng = np.random.default_rng([seed, 5])
        found = []
        for k in range(count):
            stream.load = float(rng.uniform(0.5, 1.0))
            window = Window(self.spec.name, "s", "", k * 10**9, k, k, RATE, ("x", "y", "z"),
                            Unit.ACCELERATION, stream.take(N), 490.0)  # fmt: skip
            speed_ = Speed(stream.speed_rpm, SpeedSource.MEASURED)
            found += self.analyser.analyse([window], [speed_])
        return found


def recipe_vector(found: WindowFeatures) -> np.ndarray:
    """What the popular recipe takes: RMS, peak, kurtosis, dominant frequency of each axis."""
    basic = found.basic
    dominant = found.lines.frequency_hz[:, 0]
    return np.concatenate([basic.rms, basic.peak, basic.kurtosis, dominant])


def detection(results: Results, quick: bool) -> None:
    """Share of faulty windows over the score that 1 % of other healthy windows reach."""
    from sklearn.ensemble import IsolationForest

    learn, healthy_count, faulty_count = (120, 150, 30) if quick else (300, 400, 100)
    analyser = Analyser(machines(), ZONES)
    cases = [(kind, severity) for kind in FAULT_KINDS for severity in (0.5, 1.0)]
    hits: dict[tuple[str, float], list[tuple[float, float]]] = {case: [] for case in cases}
    daily, our_daily = [], []
    for spec in track(MACHINES, description="synthetic set"):
        plant = Plant(spec, analyser)
        known = plant.run(1, learn, None)
        other = plant.run(2, healthy_count, None)
        names = feature_names(("x", "y", "z"), analyser.bands_hz, "m/s^2")
        baseline = Baseline.fit(names, np.array([feature_vector(w) for w in known]))
        forest = IsolationForest(contamination=0.05, random_state=0)
        forest.fit([recipe_vector(w) for w in known])

        def ours(windows: list[WindowFeatures], baseline: Baseline = baseline) -> np.ndarray:
            return np.array([baseline.distance(feature_vector(w))[0] for w in windows])

        def recipe(windows: list[WindowFeatures], forest: Any = forest) -> np.ndarray:
            return -forest.decision_function([recipe_vector(w) for w in windows])

        our_limit = np.quantile(ours(other), 0.99)
        their_limit = np.quantile(recipe(other), 0.99)
        daily.append(float((recipe(other) > 0).mean()) * 86_400)
        our_daily.append(float((ours(other) >= baseline.threshold).mean()) * 86_400)
        for kind, severity in cases:
            found = plant.run(3, faulty_count, MachineFault(kind, severity))
            hits[kind, severity].append(
                (float((ours(found) > our_limit).mean()),
                 float((recipe(found) > their_limit).mean()))
            )  # fmt: skip
    for (kind, severity), shares in hits.items():
        mean_ours, theirs = np.mean(shares, axis=0)
        larger = "larger" if severity == 1.0 else "smaller"
        needed = severity == 1.0 or kind != "ball"
        results.add(f"detection {kind}, {larger}", float(mean_ours), "share", float(theirs),
                    ">= 0.95" if needed else "", "at 1 % false alarms, six machines, worst "
                    f"{min(s[0] for s in shares):.2f}; baseline: IsolationForest")  # fmt: skip
    results.add("single windows over the watch threshold", float(np.mean(our_daily)),
                "per machine and day", float(np.mean(daily)),
                note="baseline: IsolationForest recipe, contamination 0.05")  # fmt: skip


# A healthy month ------------------------------------------------------------------------------


def healthy_month(results: Results, quick: bool) -> None:
    """Act alarms while loads change and lorries pass; a window every ten minutes.

    Persistence is set to 3 windows instead of 30: harder than in service, not easier.
    """
    per_day = 144
    days = 4 if quick else 30
    analyser = Analyser(machines(), ZONES)
    alarms = logs = windows = 0
    limits = HealthLimits(persistence=3, watch_windows=10, learn_windows=2 * per_day)
    for k, spec in enumerate(track(MACHINES, description="a healthy month")):
        stream = MachineStream(spec, 200 + k)
        health = SensorHealth(spec.name, "s", limits)
        rng = np.random.default_rng(k)
        alarmed = False
        for step in range(days * per_day):
            shift = (step % per_day) / per_day
            # Two shifts and a quiet night, and what the product makes of it.
            stream.load = float(
                np.clip((0.9 if shift < 0.67 else 0.4) + rng.normal(0, 0.1), 0.2, 1)
            )
            window = Window(spec.name, "s", "", step * 600 * 10**9, step, step, RATE,
                            ("x", "y", "z"), Unit.ACCELERATION, stream.take(N), 490.0)  # fmt: skip
            if rng.random() < 0.01:  # something falls, somebody drives by
                data = window.data.copy()
                first = rng.integers(N - 200)
                data[:, first : first + 200] += rng.normal(0, 10, (3, 200)).astype(np.float32)
                window = replace(window, data=data)
            speed_ = Speed(stream.speed_rpm, SpeedSource.MEASURED)
            found = health.update(analyser.analyse([window], [speed_])[0], analyser.bands_hz)
            windows += 1
            logs += found.tier is Tier.LOG
            asks = found.tier >= Tier.INSPECT
            alarms += asks and not alarmed
            alarmed = asks
    weeks = days / 7 * len(MACHINES)
    results.add("act alarms, healthy machines", alarms / weeks, "per machine and week",
                limit="<= 1", note=f"{len(MACHINES)} machines, {days} days, {windows} windows, "
                f"{alarms} alarms; changes written down in {logs} windows")  # fmt: skip


# Validation -----------------------------------------------------------------------------------


RECALL = {
    "nan": Defect.NAN, "nan_run": Defect.NAN, "flatline": Defect.FLATLINE,
    "open_bias": Defect.OPEN_BIAS, "saturation": Defect.SATURATION, "unplugged": Defect.HUM,
    "lost": Defect.GAP, "jump": Defect.TIME_JUMP,
    "backwards": Defect.NON_MONOTONIC | Defect.TIME_JUMP,  # and forwards again
    "time_zone": Defect.ZONE_OFFSET, "second": Defect.SECOND_OFFSET, "drift": Defect.CLOCK_DRIFT,
}  # fmt: skip


def validation(results: Results, quick: bool) -> None:
    """1,000 healthy windows, and each fault kind; with and without a known full scale."""
    analyser = Analyser(machines(), ZONES)
    per_machine = 20 if quick else 167
    false = total = 0
    for k, spec in enumerate(track(MACHINES, description="healthy windows")):
        known = math.nan if k % 2 else 490.0
        for found in _windows(spec, k, per_machine, "", analyser, known):
            total += 1
            false += found.quality.status is not Status.VALID
    results.add("validation: false positives", false, "windows", limit="0",
                note=f"of {total} healthy windows of six machines")  # fmt: skip
    for kind, defect in RECALL.items():
        hit = count = 0
        for k, spec in enumerate(MACHINES):
            windows = 3 if quick else 17
            known = 490.0 if kind == "saturation" or k % 2 == 0 else math.nan
            # A drift needs its minute first.
            skip = 70 if kind == "drift" else 0
            found_windows = _windows(spec, 50 + k, windows + skip, kind, analyser, known)
            for found in found_windows[skip:]:
                count += 1
                is_found = found.quality.defects & defect
                hit += found.quality.status is Status.UNKNOWN and bool(is_found)
        results.add(f"validation: recall {kind}", hit / count, "share", limit=">= 0.98",
                    note=f"UNKNOWN as {defect.name}, {count} windows")  # fmt: skip


def _windows(
    spec: MachineSpec, seed: int, count: int, kind: str, analyser: Analyser, full_scale: float
) -> list[WindowFeatures]:
    """Windows through blocks, stream clock and analysis, as in the node."""
    machine, spoiler, stream = MachineStream(spec, seed), Acquisition(seed), SensorStream(1.0)
    rng = np.random.default_rng(seed)
    start_ns, found = 1_800_000_000_000_000_000, []
    for k in range(10 * count):
        raw = RawBlock(machine.take(1000), k, start_ns + k * STEP_NS, 490.0)
        if kind:
            raw = spoiler.spoil(raw, kind)
        arrival = start_ns + (k + 1) * STEP_NS + round(2e6 + rng.exponential(3e6))
        for _ in range(raw.copies):
            block = Block(spec.name, "s", k, raw.stamp_ns, arrival, RATE, ("x", "y", "z"),
                          Unit.ACCELERATION, raw.data, full_scale, raw.bias_v)  # fmt: skip
            for window in stream.add(block):
                speed_ = Speed(machine.speed_rpm, SpeedSource.MEASURED)
                found += analyser.analyse([window], [speed_])
    return found[:count]
