"""One table from signals of different rates: features, temperature, current, maintenance.

Every value comes from inside its window, or from a straight line between two neighbours that are
near; a column NAME_valid says whether there was any. Nothing is carried forward.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from shopfloor.vibration.features import Floats

TIME = "time"
"""UTC, of the first sample of the window."""


def read_table(path: Path) -> pd.DataFrame:
    """A .csv or .parquet with a column `time`, sorted by it. Raises ValueError naming the file.

    time: ISO 8601 (without a zone: UTC) or seconds since 1970.
    """
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        if TIME not in table:
            raise ValueError(f"no column '{TIME}'; there are: {', '.join(map(str, table.columns))}")
        if pd.api.types.is_numeric_dtype(table[TIME]):
            table[TIME] = pd.to_datetime(table[TIME], unit="s", utc=True)
        else:
            table[TIME] = pd.to_datetime(table[TIME], utc=True, format="ISO8601")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    if table[TIME].isna().any():
        raise ValueError(f"{path}: {int(table[TIME].isna().sum())} rows without a time")
    return table.sort_values(TIME, kind="stable").reset_index(drop=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """As .parquet or .csv, by the name. Raises ValueError on another one."""
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        raise ValueError(f"{path}: not .parquet or .csv")


def align(
    features: pd.DataFrame,
    signals: dict[str, pd.DataFrame],
    maintenance: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """`features` with a column per signal and what is known of maintenance.

    features: columns time, window_s and whatever else. signals: name to a table with the columns
    time and value. maintenance: columns time and text; gives `maintenance` (what was done in the
    window), `hours_since_maintenance` and its validity.
    Raises ValueError naming table and column where one is missing or is no number.
    """
    table = features.copy()
    start_s = _seconds(table[TIME])
    end_s = start_s + _numbers(table, "window_s", "features")
    for name, signal in signals.items():
        at_s, value = _seconds(signal[TIME]), _numbers(signal, "value", name)
        known = np.isfinite(value)
        values, valid = _in_windows(at_s[known], value[known], start_s, end_s)
        table[name], table[f"{name}_valid"] = values, valid
    if maintenance is not None:
        at_s = _seconds(maintenance[TIME])
        first, last = np.searchsorted(at_s, start_s), np.searchsorted(at_s, end_s)
        text = _column(maintenance, "text", "maintenance").astype(str).to_numpy()
        table["maintenance"] = [
            "; ".join(text[a:b]) for a, b in zip(first, last, strict=True)
        ]  # fmt: skip
        known = last > 0
        before = at_s[np.maximum(last - 1, 0)] if len(at_s) else np.zeros(len(table))
        table["hours_since_maintenance"] = np.where(known, (end_s - before) / 3600, np.nan)
        table["hours_since_maintenance_valid"] = known
    return table


def _column(table: pd.DataFrame, column: str, of: str) -> pd.Series:
    if column not in table:
        there = ", ".join(map(str, table.columns))
        raise ValueError(f"{of}: no column '{column}'; there are: {there}")
    return table[column]


def _numbers(table: pd.DataFrame, column: str, of: str) -> Floats:
    try:
        numbers: Floats = _column(table, column, of).to_numpy(float)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{of}: column '{column}': {error}") from None
    return numbers


def _in_windows(
    at_s: Floats, value: Floats, start_s: Floats, end_s: Floats
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Mean inside each window; between two samples a line, where they are two periods apart."""
    if not len(at_s):
        return np.full(len(start_s), np.nan), np.zeros(len(start_s), bool)
    first, last = np.searchsorted(at_s, start_s), np.searchsorted(at_s, end_s)
    total = np.concatenate([[0.0], np.cumsum(value)])
    count = last - first
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (total[last] - total[first]) / count
    middle = (start_s + end_s) / 2
    period = float(np.median(np.diff(at_s))) if len(at_s) > 1 else 0.0
    left, right = np.clip(first - 1, 0, None), np.clip(first, None, len(at_s) - 1)
    near = (first > 0) & (first < len(at_s)) & (at_s[right] - at_s[left] <= 2 * period)
    line = np.interp(middle, at_s, value)
    valid = (count > 0) | near
    return np.where(count > 0, mean, np.where(near, line, np.nan)), valid


def _seconds(times: pd.Series) -> Floats:
    stamps: Floats = times.astype("datetime64[ns, UTC]").astype("int64").to_numpy() / 1e9
    return stamps
