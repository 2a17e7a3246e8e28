"""Bearing diagnoses of recordings, window by window, and how often they are right.

The same validation, evidence and limits as in the node; nothing is learned from the recordings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from shopfloor.vibration.analysis import Analyser
from shopfloor.vibration.bearing import FAULTS, BearingOrders
from shopfloor.vibration.diagnosis import DiagnosisLimits, Diagnostician, Fault
from shopfloor.vibration.machines import Machine
from shopfloor.vibration.recordings import read_recording, resampled
from shopfloor.vibration.signal import Unit
from shopfloor.vibration.tables import analyse, recorded_windows

NAMED = (Fault.OUTER_RACE, Fault.INNER_RACE, Fault.ROLLING_ELEMENT)
"""In the order of FAULTS."""

_TRUTH = {
    **dict.fromkeys(("or", "outer", "outer race"), FAULTS[0]),
    **dict.fromkeys(("ir", "inner", "inner race"), FAULTS[1]),
    **dict.fromkeys(("b", "ball", "rolling element", "re"), FAULTS[2]),
    **dict.fromkeys(("normal", "healthy", "none", "ok"), ""),
}
"""What a fault is called in an index file."""


@dataclass(frozen=True)
class Record:
    """A recording and what is known of it. truth: one of FAULTS, "" healthy, None not known."""

    path: Path
    speed_rpm: float
    rate_hz: float = math.nan
    truth: str | None = None
    size: str = ""


def read_index(path: Path) -> list[Record]:
    """The records of a csv file with the columns file and rpm; where known sample_rate_hz, fault
    (OR, IR, B or normal) and a size. Files are found beside it.

    Raises ValueError naming the file, the row and what is wrong.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    missing = {"file", "rpm"} - set(table.columns)
    if missing:
        raise ValueError(f"{path}: no column {', '.join(sorted(missing))}; it has "
                         f"{', '.join(map(str, table.columns))}")  # fmt: skip
    size = next((name for name in table.columns if str(name).startswith("size")), "")
    records = []
    for number, row in enumerate(table.to_dict("records"), start=2):
        fault = str(row.get("fault", "")).strip().lower()
        if fault and fault not in _TRUTH:
            raise ValueError(f"{path}, row {number}: fault '{fault}' is none of "
                             f"{', '.join(_TRUTH)}")  # fmt: skip
        try:
            speed, rate = float(row["rpm"]), float(row.get("sample_rate_hz") or math.nan)
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}") from None
        truth = _TRUTH[fault] if fault else None
        records.append(Record(path.parent / row["file"], speed, rate, truth, row.get(size, "")))
    return records


def diagnose(
    records: Iterable[Record],
    bearing: BearingOrders,
    *,
    resample_hz: float = 0.0,
    window_s: float = 1.0,
    variable: str = "",
    unit: tuple[Unit, float] = (Unit.ACCELERATION, 1.0),
    limits: DiagnosisLimits | None = None,
) -> pd.DataFrame:
    """One row per window: file, start_s, truth, size, said, diagnosis, margin, text, scores.

    said: the fault of the highest score; diagnosis: what is stood by, ABSTAIN or a fault's name.
    resample_hz: 0: every file at its own rate. limits: each window for itself unless they say else.
    Raises ValueError naming the file where rate or speed are not known.
    """
    limits = limits or DiagnosisLimits(windows=1)
    analyser = Analyser({"m": Machine("m", bearing=bearing)}, {})
    rows: list[Mapping[str, object]] = []
    for record in records:
        recording = read_recording(record.path, variable)
        rate_hz = record.rate_hz if record.rate_hz > 0 else recording.rate_hz
        speed_rpm = record.speed_rpm if record.speed_rpm > 0 else recording.speed_rpm
        if not rate_hz > 0:
            raise ValueError(f"{record.path} does not tell its sample rate: give --rate")
        if not speed_rpm > 0:
            raise ValueError(f"{record.path}: no shaft speed: give --speed")
        if resample_hz:
            recording, rate_hz = resampled(recording, rate_hz, resample_hz)
        windows = recorded_windows(recording, rate_hz, unit[0], window_s, 0, "m", unit[1])
        if not windows:
            raise ValueError(f"{record.path} is shorter than a window of {window_s:g} s")
        judge = Diagnostician(limits)
        for found in analyse(analyser, windows, speed_rpm):
            verdict = judge.update(found, None)
            scores = np.full(len(FAULTS), np.nan)
            if found.evidence is not None and found.usable.any():
                scores = found.evidence.score[found.usable].mean(axis=0)
            said = FAULTS[int(scores.argmax())] if np.isfinite(scores).all() else ""
            rows.append({
                "file": record.path.name, "start_s": found.window.stamp_ns / 1e9,
                "truth": record.truth, "size": record.size, "said": said,
                "diagnosis": verdict.fault.label, "margin": verdict.margin, "text": verdict.text,
                **{f"score {name}": score for name, score in zip(FAULTS, scores, strict=True)},
            })  # fmt: skip
    table = pd.DataFrame(rows)
    table["accepted"] = table.diagnosis.isin([fault.label for fault in NAMED])
    return table


@dataclass(frozen=True)
class Rates:
    """How good diagnoses are: shares of faulty windows, and of healthy ones; NaN: there are none.

    right: the highest score is the fault. coverage: a fault was stood by. accepted_right: of these.
    false: healthy windows of which a fault was named.
    """

    faulty: int
    right: float
    coverage: float
    accepted_right: float
    healthy: int
    false: float


def rates(table: pd.DataFrame) -> Rates:
    """Of what `diagnose` gave, where the truth is known."""
    known = table[table.truth.notna()]
    faulty, healthy = known[known.truth != ""], known[known.truth == ""]
    accepted = faulty[faulty.accepted]
    return Rates(
        len(faulty),
        float((faulty.said == faulty.truth).mean()),
        float(faulty.accepted.mean()),
        float((accepted.diagnosis == accepted.truth).mean()),
        len(healthy),
        float(healthy.accepted.mean()),
    )
