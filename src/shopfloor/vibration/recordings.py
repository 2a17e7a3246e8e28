"""Recorded signals from files: npy, csv, wav and mat, as (channels, samples) float32."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from shopfloor.vibration.signal import Samples

SUFFIXES = (".npy", ".csv", ".tsv", ".txt", ".wav", ".mat")
_RATE_NAMES = ("fs", "sr", "sample_rate", "sample_rate_hz", "samplerate", "sampling_rate")
_NAME_BYTES = 16
"""Of a channel in a VibrationBlock."""


@dataclass(frozen=True)
class Recording:
    """A file's samples. rate_hz, speed_rpm: NaN where the file does not tell; channels: names."""

    path: Path
    data: Samples
    rate_hz: float
    channels: tuple[str, ...]
    speed_rpm: float = math.nan


def read_recording(path: Path, variable: str = "") -> Recording:
    """The samples of a file.

    npy: one- or two-dimensional, the longer side is time. csv, tsv, txt: a column per channel, with
    names in its first row or without; a column `t` or `time` in seconds gives the rate. wav: full
    scale is 1. mat: MATLAB 4 to 7.2, structures too (as `bearing.gs`); `variable` is an array's
    name or a part of it that only one has, else there must be one that is larger than the others;
    numbers beside it that are called sample rate or rpm are taken as such.
    Raises ValueError naming the file and what is wrong.
    """
    readers = {".npy": _npy, ".wav": _wav, ".mat": _mat}
    readers |= dict.fromkeys((".csv", ".tsv", ".txt"), _csv)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: not one of {', '.join(SUFFIXES)}")
    try:
        data, rate_hz, channels, *speed = reader(path, variable)
    except Exception as error:  # scipy's readers raise what they like on a broken file
        raise ValueError(f"{path}: {error}") from error
    if data.size == 0 or len(data) > 16:
        raise ValueError(f"{path}: {data.shape} is not 1 to 16 channels with samples")
    names = tuple(name.encode()[:_NAME_BYTES].decode(errors="ignore") for name in channels)
    if len(set(names)) < len(data):
        names = _names(len(data))
    return Recording(path, data, rate_hz, names, *speed)


def resampled(recording: Recording, rate_hz: float, to_hz: float) -> tuple[Recording, float]:
    """The recording at about another rate, band-limited, and the rate that it has now.

    Ratios that are not small fractions are met within a part in a thousand.
    Raises ValueError where a rate is not positive.
    """
    from scipy.signal import resample_poly

    if not (0 < rate_hz < math.inf and 0 < to_hz < math.inf):
        raise ValueError(f"cannot resample from {rate_hz:g} to {to_hz:g} Hz")
    ratio = Fraction(to_hz / rate_hz).limit_denominator(1000)
    if not ratio:
        raise ValueError(f"{to_hz:g} Hz is too little of {rate_hz:g} Hz")
    data = resample_poly(recording.data.astype(float), ratio.numerator, ratio.denominator, axis=1)
    return replace(recording, data=data.astype(np.float32)), rate_hz * float(ratio)


_Read = tuple[Samples, float, tuple[str, ...]] | tuple[Samples, float, tuple[str, ...], float]


def _npy(path: Path, _: str) -> _Read:
    return _shaped(np.load(path, allow_pickle=False)), math.nan, ()


def _csv(path: Path, _: str) -> _Read:
    import pandas as pd

    with path.open(encoding="utf-8-sig") as file:
        first = file.readline().strip()
    separator = next((mark for mark in (";", "\t", ",") if mark in first), r"\s+")
    decimal = "," if separator == ";" else "."
    table = pd.read_csv(path, sep=separator, decimal=decimal, encoding="utf-8-sig")
    if all(_is_number(str(name).replace(decimal, ".")) for name in table.columns):
        table = pd.read_csv(path, sep=separator, decimal=decimal, header=None)
        return _shaped(table.to_numpy(np.float32)), math.nan, ()
    names = [str(name) for name in table.columns]
    rate_hz = math.nan
    time_name = next((name for name in names if name.strip().lower() in ("t", "time")), None)
    if time_name is not None:
        steps = np.diff(table[time_name].to_numpy(float))
        if not len(steps) or not np.median(steps) > 0:
            raise ValueError(f"column {time_name} does not rise")
        rate_hz = round(1 / float(np.median(steps)), 6)
        names.remove(time_name)
    return table[names].to_numpy(np.float32).T.copy(), rate_hz, tuple(n.strip() for n in names)


def _wav(path: Path, _: str) -> _Read:
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks that nobody knows
        rate, data = wavfile.read(path)
    if data.dtype.kind == "i":
        data = data / float(-np.iinfo(data.dtype).min)
    elif data.dtype.kind == "u":
        data = (data.astype(np.float32) - 128) / 128
    return np.atleast_2d(np.asarray(data, np.float32).T).copy(), float(rate), ()


def _mat(path: Path, variable: str) -> _Read:
    from scipy.io import loadmat

    numbers, arrays = {}, {}
    for name, value in _leaves(loadmat(path, simplify_cells=True)):
        if value.size == 1:
            numbers[name] = float(value.flat[0])
        elif value.size and value.ndim <= 2:
            arrays[name] = value
    if not arrays:
        raise ValueError("no numeric array in it")
    sizes = [array.size for array in arrays.values()]
    largest = [name for name in arrays if arrays[name].size == max(sizes)]
    chosen = [n for n in arrays if variable.lower() in n.lower()] if variable else largest
    chosen = [variable] if variable in arrays else chosen
    if len(chosen) != 1:
        what = f"{len(chosen) or 'no'} array{'s' * (len(chosen) > 1)} '{variable}'"
        there = ", ".join(sorted(arrays))
        raise ValueError(f"{what if variable else 'name the array'}; there are: {there}")
    rates = [v for n, v in numbers.items() if n.lower().rpartition(".")[2] in _RATE_NAMES]
    speeds = [v for n, v in numbers.items() if "rpm" in n.lower()]
    rate_hz, speed_rpm = (v[0] if len(set(v)) == 1 and v[0] > 0 else math.nan
                          for v in (rates, speeds))  # fmt: skip
    return _shaped(arrays[chosen[0]]), rate_hz, (), speed_rpm


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Numbers and arrays of numbers, named by their path in the structures of a mat file."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if not key.startswith("__"):
                yield from _leaves(value, f"{name}.{key}" if name else key)
    elif isinstance(tree, list):
        for k, value in enumerate(tree):
            yield from _leaves(value, f"{name}[{k}]")
    else:
        array = np.asarray(tree)
        if array.dtype.kind in "fiu":
            yield name, array
        elif array.dtype == object:
            for k, value in enumerate(array.ravel().tolist()):
                yield from _leaves(value, f"{name}[{k}]")


def _shaped(array: np.ndarray[Any, Any]) -> Samples:
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ValueError(f"{array.ndim}-dimensional {array.dtype} is no signal")
    if array.shape[0] > array.shape[1]:
        array = array.T
    return np.ascontiguousarray(array, np.float32)


def _names(count: int) -> tuple[str, ...]:
    return ("x", "y", "z")[:count] if count <= 3 else tuple(f"ch{k}" for k in range(count))


def _is_number(name: object) -> bool:
    try:
        float(str(name))
    except ValueError:
        return False
    return True
