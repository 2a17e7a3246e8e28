"""Recorded signals from files: npy, csv, wav and mat, as (channels, samples) float32."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shopfloor.vibration.signal import Samples

SUFFIXES = (".npy", ".csv", ".wav", ".mat")


@dataclass(frozen=True)
class Recording:
    """A file's samples. rate_hz: NaN where the file does not tell; channels: their names."""

    path: Path
    data: Samples
    rate_hz: float
    channels: tuple[str, ...]


def read_recording(path: Path, variable: str = "") -> Recording:
    """The samples of a file.

    npy: one- or two-dimensional, the longer side is time. csv: a column per channel; with names in
    its first row; a column `t` or `time` in seconds gives the rate. wav: full scale is 1. mat:
    MATLAB 4 to 7.2; `variable` names the array, else the largest one is taken.
    Raises ValueError naming the file and what is wrong.
    """
    readers = {".npy": _npy, ".csv": _csv, ".wav": _wav, ".mat": _mat}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: not one of {', '.join(SUFFIXES)}")
    try:
        data, rate_hz, channels = reader(path, variable)
    except Exception as error:  # scipy's readers raise what they like on a broken file
        raise ValueError(f"{path}: {error}") from error
    if data.size == 0 or len(data) > 16:
        raise ValueError(f"{path}: {data.shape} is not 1 to 16 channels with samples")
    return Recording(path, data, rate_hz, channels or _names(len(data)))


_Read = tuple[Samples, float, tuple[str, ...]]


def _npy(path: Path, _: str) -> _Read:
    return _shaped(np.load(path, allow_pickle=False)), math.nan, ()


def _csv(path: Path, _: str) -> _Read:
    import pandas as pd

    table = pd.read_csv(path)
    if all(_is_number(name) for name in table.columns):
        table = pd.read_csv(path, header=None)
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

    content: dict[str, Any] = loadmat(path)
    arrays = {
        name: value
        for name, value in content.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.ndim <= 2
    }
    if variable and variable not in arrays:
        raise ValueError(f"no array '{variable}'; there are: {', '.join(sorted(arrays))}")
    if not arrays:
        raise ValueError("no numeric array in it")
    name = variable or max(arrays, key=lambda key: arrays[key].size)
    return _shaped(arrays[name]), math.nan, ()


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
