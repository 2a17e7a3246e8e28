"""Features as rows of a table: one row per window, one column per channel and feature."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from shopfloor.vibration.alignment import TIME
from shopfloor.vibration.analysis import Analyser, Speed, SpeedSource, WindowFeatures
from shopfloor.vibration.baseline import FeatureName, feature_names, feature_vector
from shopfloor.vibration.recordings import Recording
from shopfloor.vibration.signal import Samples, Unit, Window


def recorded_windows(
    recording: Recording,
    rate_hz: float,
    unit: Unit,
    window_s: float,
    start_ns: int,
    machine_id: str,
    factor: float = 1.0,
) -> list[Window]:
    """A recording cut into windows; what is left at its end is left out."""
    size = round(window_s * rate_hz)
    windows = []
    for first in range(0, recording.data.shape[1] - size + 1, size):
        data: Samples = recording.data[:, first : first + size] * factor
        windows.append(
            Window(
                machine_id, recording.path.stem, "", start_ns + round(first / rate_hz * 1e9),
                first // size, first // size, rate_hz, recording.channels, unit,
                data.astype("float32"),
            )
        )  # fmt: skip
    return windows


def analyse(analyser: Analyser, windows: list[Window], speed_rpm: float) -> list[WindowFeatures]:
    """Features of windows at one speed; 0: not known."""
    speed = Speed(speed_rpm, SpeedSource.MEASURED) if speed_rpm > 0 else Speed()
    found: list[WindowFeatures] = []
    for first in range(0, len(windows), 32):
        batch = windows[first : first + 32]
        found += analyser.analyse(batch, [speed] * len(batch))
    return found


def feature_table(
    found: Iterable[WindowFeatures], bands_hz: tuple[tuple[float, float], ...]
) -> pd.DataFrame:
    """One row per window; a feature that is not known is NaN and `valid` false."""
    rows = []
    for features in found:
        window = features.window
        names = feature_names(window.channels, bands_hz, window.unit.symbol)
        row: dict[str, object] = {
            TIME: pd.Timestamp(window.stamp_ns, unit="ns", tz="UTC"),
            "window_s": window.duration_s,
            "machine": window.machine_id,
            "sensor": window.sensor_id,
            "speed_rpm": features.speed.rpm,
            "valid": bool(features.usable.all()),
            "reason": features.quality.reason,
        }
        for name, decibels in zip(names, feature_vector(features).tolist(), strict=True):
            row[_column(name)] = decibels if math.isfinite(decibels) else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _column(name: FeatureName) -> str:
    return f"{name.channel} {name.feature} [dB]"
