"""What is normal for one sensor in one bin of shaft speed: learned, frozen, kept on disk."""

from __future__ import annotations

import enum
import json
import math
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.vibration.analysis import LINE_NAMES, ORDERS, WindowFeatures
from shopfloor.vibration.bearing import FAULTS
from shopfloor.vibration.features import Floats

MIN_WINDOWS = 30
"""Fewest windows that may be frozen; with fewer, the threshold is a guess."""

_FORMAT = 1
_TINY = 1e-12
_BIN = re.compile(r"(\d{1,7})-(\d{1,7}) rpm")
_NO_SPEED = "speed unknown"


class BaselineState(enum.IntEnum):
    """The values of MachineHealth.BASELINE_*."""

    UNKNOWN = 0
    MISSING = 1
    LEARNING = 2
    FROZEN = 3


class BaselineAction(enum.IntEnum):
    """The values of LearnBaseline.ACTION_*."""

    LEARN = 1
    FREEZE = 2
    RESET = 3


@dataclass(frozen=True)
class FeatureName:
    """One coordinate of the health vector: a channel and what of it, in dB."""

    channel: str
    feature: str
    unit: str


def feature_names(
    channels: tuple[str, ...], bands_hz: tuple[tuple[float, float], ...], unit: str
) -> tuple[FeatureName, ...]:
    """The coordinates of `feature_vector`, in its order."""
    per_channel = [
        ("rms", unit),
        ("kurtosis", ""),
        ("velocity rms", "mm/s"),
        *((f"band {low:g}-{high:g} Hz", f"({unit})^2") for low, high in bands_hz),
        *((name, unit) for name in LINE_NAMES[1:]),
        *((f"{fault} lines", "dB") for fault in FAULTS),
    ]
    return tuple(
        FeatureName(channel, name, unit) for channel in channels for name, unit in per_channel
    )


def feature_vector(features: WindowFeatures) -> Floats:
    """(channels * features,) in dB; NaN where the window does not know.

    Decibels because levels vary by factors: what doubles is as far as what halves.
    """
    basic, lines = features.basic, features.lines
    channels = len(features.window.channels)
    prominence: Floats = np.full((channels, len(FAULTS)), np.nan)
    if features.evidence is not None:
        prominence = features.evidence.prominence_db[:, : len(FAULTS)]
    columns = [
        20 * np.log10(np.maximum(basic.rms, _TINY))[:, None],
        20 * np.log10(np.maximum(basic.kurtosis, _TINY))[:, None],
        20 * np.log10(np.maximum(features.velocity_rms_mm_s, _TINY))[:, None],
        10 * np.log10(np.maximum(basic.bands, _TINY)),
        20 * np.log10(np.maximum(lines.amplitude[:, 1:], _TINY)),
        prominence,
    ]
    vector: Floats = np.concatenate(columns, axis=1).astype(np.float64).ravel()
    return vector


@dataclass(frozen=True)
class Baseline:
    """Frozen: median, mean and precision of the health vector, and the watch threshold.

    used: which coordinates were known in every window learned; the others play no part.
    """

    names: tuple[FeatureName, ...]
    used: npt.NDArray[np.bool_]
    median: Floats
    mean: Floats
    precision: Floats
    threshold: float
    windows: int

    @classmethod
    def fit(cls, names: tuple[FeatureName, ...], vectors: Floats) -> Baseline:
        """From (windows, coordinates). Raises ValueError with fewer than MIN_WINDOWS.

        The covariance is shrunk (Ledoit and Wolf 2004), which keeps it well-conditioned with few
        windows. The threshold comes from windows that the fit did not see: two halves judge each
        other, and 1.3 x their 99th percentile is where watch begins.
        """
        if len(vectors) < MIN_WINDOWS:
            raise ValueError(f"{len(vectors)} windows learned, at least {MIN_WINDOWS} are needed")
        used = np.asarray(np.isfinite(vectors).all(axis=0))
        if not used.any():
            raise ValueError("no feature was known in every window learned")
        known = vectors[:, used]
        mean, precision = _fit(known)
        unseen = [
            _distances(known[k::2], *_fit(known[1 - k :: 2]))
            for k in (0, 1)
        ]  # fmt: skip
        threshold = 1.3 * float(np.percentile(np.concatenate(unseen), 99))
        median = np.full(vectors.shape[1], np.nan)
        median[used] = np.median(known, axis=0)
        return cls(names, used, median, mean, precision, threshold, len(vectors))

    def distance(self, vector: Floats) -> tuple[float, Floats]:
        """Mahalanobis distance over the root of the dimensions, and each coordinate's share of it.

        A coordinate that this window does not know counts as normal. shares: (coordinates,), sum 1.
        """
        off = vector[self.used] - self.mean
        off[~np.isfinite(off)] = 0.0
        parts = off * (self.precision @ off)
        total = float(parts.sum())
        shares = np.zeros(len(vector))
        positive = np.maximum(parts, 0.0)
        if positive.sum() > 0:
            shares[self.used] = positive / positive.sum()
        return math.sqrt(max(total, 0.0) / len(off)), shares

    def change_db(self, vector: Floats) -> Floats:
        """(coordinates,): change against the median learned; NaN where one is not known."""
        change: Floats = vector - self.median
        return change

    def save(self, path: Path) -> None:
        """Write atomically; a crash leaves the old file or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "format": _FORMAT,
            "names": [asdict(name) for name in self.names],
            "used": self.used.astype(int).tolist(),
            "median": [None if math.isnan(v) else v for v in self.median.tolist()],
            "mean": self.mean.tolist(),
            "precision": self.precision.tolist(),
            "threshold": self.threshold,
            "windows": self.windows,
        }
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(content), encoding="utf-8")
        os.replace(draft, path)

    @classmethod
    def load(cls, path: Path) -> Baseline:
        """Raises ValueError naming the file where it is not a baseline of this format."""
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']}, known: {_FORMAT}")
            names = tuple(FeatureName(**name) for name in content["names"])
            used = np.array(content["used"], bool)
            median = np.array([math.nan if v is None else v for v in content["median"]], float)
            mean, precision = np.array(content["mean"]), np.array(content["precision"])
            count = int(used.sum())
            shapes = (used.shape, median.shape, mean.shape, precision.shape)
            if shapes != ((len(names),), (len(names),), (count,), (count, count)):
                raise ValueError(f"sizes do not fit: {shapes}")
            return cls(names, used, median, mean, precision,
                       float(content["threshold"]), int(content["windows"]))  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a baseline: {error}") from error


def speed_bin(rpm: float, width_rpm: float, previous: str = "") -> str:
    """Name of the bin, for example "1450-1550 rpm"; "speed unknown" without a speed.

    The previous bin is kept until the speed is a tenth of the width outside of it, so that a speed
    on an edge does not change its baseline every second.
    """
    if not math.isfinite(rpm):
        return _NO_SPEED
    match = _BIN.fullmatch(previous)
    if match and int(match[1]) - width_rpm / 10 <= rpm <= int(match[2]) + width_rpm / 10:
        return previous
    low = math.floor(rpm / width_rpm + 0.5) * width_rpm - width_rpm / 2
    return f"{max(low, 0):.0f}-{low + width_rpm:.0f} rpm"


def checked_bin(name: str, width_rpm: float) -> str:
    """`name` where `speed_bin` gives it. Raises ValueError naming the bins that there are."""
    match = _BIN.fullmatch(name)
    middle = (int(match[1]) + int(match[2])) / 2 if match else math.nan
    expected = speed_bin(middle, width_rpm)
    if name != expected:
        around = f"the nearest is '{expected}'" if match else f"or '{_NO_SPEED}'"
        raise ValueError(
            f"speed bin '{name}' is none; bins are {width_rpm:g} rpm wide, such as "
            f"'{speed_bin(1480, width_rpm)}', {around}"
        )
    return name


def baseline_file(folder: Path, machine: str, sensor: str, bin_name: str) -> Path:
    """Where a baseline lies; whatever an id holds becomes a plain file name."""
    safe = [re.sub(r"[^\w.-]", "_", part) for part in (machine, sensor, bin_name)]
    return folder / safe[0] / f"{safe[1]}.{safe[2]}.json"


def order_rise_db(baseline: Baseline, vector: Floats, channels: int) -> Floats:
    """(channels, orders): what the orders have risen by."""
    rise = baseline.change_db(vector).reshape(channels, -1)
    first = rise.shape[1] - len(FAULTS) - len(ORDERS)
    orders: Floats = rise[:, first : first + len(ORDERS)]
    return orders


def _fit(vectors: Floats) -> tuple[Floats, Floats]:
    # Imported here: it takes a second and 60 MB, and only who learns needs it.
    from sklearn.covariance import LedoitWolf

    spread = np.maximum(vectors.std(axis=0), 1e-3)
    mean = vectors.mean(axis=0)
    model = LedoitWolf(assume_centered=True).fit((vectors - mean) / spread)
    return mean, model.precision_ / np.outer(spread, spread)


def _distances(vectors: Floats, mean: Floats, precision: Floats) -> Floats:
    off = vectors - mean
    squared = np.einsum("ij,jk,ik->i", off, precision, off)
    distances: Floats = np.sqrt(np.maximum(squared, 0) / vectors.shape[1])
    return distances
