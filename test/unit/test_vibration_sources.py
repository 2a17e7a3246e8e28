"""Files of every kind and datagrams, whole and damaged."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat, wavfile

from shopfloor.sim.acquisition import ACQUISITION_FAULTS, Acquisition, RawBlock, parse_scheduled
from shopfloor.vibration.recordings import read_recording
from shopfloor.vibration.signal import Block, Unit
from shopfloor.vibration.wire import SlipReader, WireError, decode, encode, slip

X = np.random.default_rng(1).standard_normal((2, 500)).astype(np.float32)


def block(**changes: object) -> Block:
    known = {
        "machine_id": "pümp",
        "sensor_id": "s",
        "sequence": 2**40,
        "stamp_ns": 10**18,
        "received_ns": 5,
        "sample_rate_hz": 25_600.0,
        "channels": ("x", "y"),
        "unit": Unit.VELOCITY,
        "data": X,
        "full_scale": 16.0,
        "bias_v": (11.0, 12.0),
    }
    return Block(**{**known, **changes})  # type: ignore[arg-type]


def test_npy_both_ways_round(tmp_path: Path) -> None:
    for array in (X, X.T, X[0]):
        np.save(tmp_path / "a.npy", array)
        found = read_recording(tmp_path / "a.npy")
        assert np.array_equal(found.data, X[: len(found.data)])
        assert math.isnan(found.rate_hz)
    assert found.channels == ("x",)


def test_csv_with_and_without_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    t = np.arange(500) / 1000
    rows = np.column_stack([t, X.T])
    np.savetxt(path, rows, delimiter=",", header="time,de,nde", comments="")
    found = read_recording(path)
    assert found.rate_hz == pytest.approx(1000) and found.channels == ("de", "nde")
    assert np.allclose(found.data, X, atol=1e-6)
    np.savetxt(path, X.T, delimiter=",")
    found = read_recording(path)
    assert found.data.shape == (2, 500) and math.isnan(found.rate_hz)


def test_wav_and_mat(tmp_path: Path) -> None:
    scaled = (X / 8 * 32767).astype(np.int16)
    wavfile.write(tmp_path / "a.wav", 12_000, scaled.T)
    found = read_recording(tmp_path / "a.wav")
    assert found.rate_hz == 12_000
    assert np.allclose(found.data, X / 8, atol=1e-4)
    savemat(tmp_path / "a.mat", {"DE_time": X[0], "RPM": 1797, "name": "text"})
    assert np.allclose(read_recording(tmp_path / "a.mat").data, X[:1])
    with pytest.raises(ValueError, match=r"no array 'FE'; there are: DE_time"):
        read_recording(tmp_path / "a.mat", "FE")


@pytest.mark.parametrize("name", ["a.npy", "a.csv", "a.wav", "a.mat", "a.txt", "missing.npy"])
def test_what_is_no_recording_is_refused_by_name(tmp_path: Path, name: str) -> None:
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"\x00garbage")
    with pytest.raises(ValueError, match=name):
        read_recording(tmp_path / name)


@pytest.mark.parametrize("int16", [False, True])
def test_a_block_comes_back_from_the_wire(int16: bool) -> None:
    sent = block()
    found, speed = decode(encode(sent, 1480.0, int16=int16), received_ns=5)
    assert speed == 1480.0
    assert np.allclose(found.data, X, atol=16 / 32767 if int16 else 0)
    for name in ("machine_id", "sensor_id", "sequence", "stamp_ns", "channels", "unit", "bias_v"):
        assert getattr(found, name) == getattr(sent, name)


def test_without_a_clock_arrival_counts() -> None:
    datagram = encode(block(stamp_ns=0, bias_v=(), full_scale=math.nan))
    found, speed = decode(datagram, received_ns=10**18)
    assert found.stamp_ns == 10**18 - round(500 / 25_600 * 1e9)
    assert math.isnan(speed) and found.bias_v == ()


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_damaged_datagram_gets_through(data: st.DataObject) -> None:
    datagram = bytearray(encode(block()))
    # Behind magic and version; stamps and rates in the head have no redundancy to check.
    at = data.draw(st.integers(52, len(datagram) - 1))
    datagram[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(WireError):
        decode(bytes(datagram), 1)
    cut = data.draw(st.integers(0, len(datagram) - 1))
    with pytest.raises(WireError):
        decode(bytes(datagram[:cut]), 1)


def test_a_block_that_does_not_fit_is_refused() -> None:
    with pytest.raises(WireError, match="holds 65507"):
        encode(block(data=np.zeros((2, 10_000), np.float32)))
    with pytest.raises(WireError, match="full scale"):
        encode(block(full_scale=math.nan), int16=True)


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=5), st.integers(1, 17))
@settings(deadline=None)
def test_slip_frames_come_back_however_the_stream_is_cut(frames: list[bytes], size: int) -> None:
    stream = b"".join(slip(frame) for frame in frames)
    reader = SlipReader()
    found = [f for k in range(0, len(stream), size) for f in reader.feed(stream[k : k + size])]
    assert found == frames


def test_every_acquisition_fault_changes_the_block() -> None:
    acquisition = Acquisition(1)
    for kind in ACQUISITION_FAULTS:
        raw = RawBlock(np.tile(X, (1, 2)), 30, 10**18, 16.0)
        spoiled = acquisition.spoil(raw, kind)
        same = np.array_equal(spoiled.data, raw.data) and (
            (spoiled.stamp_ns, spoiled.copies, spoiled.bias_v, spoiled.claimed_samples)
            == (raw.stamp_ns, raw.copies, raw.bias_v, raw.claimed_samples)
        )
        assert not same, kind
    with pytest.raises(ValueError, match="no acquisition fault"):
        acquisition.spoil(raw, "gremlin")


def test_a_timetable_is_read_or_refused() -> None:
    fault = parse_scheduled("pump_1:nan@3+2*0.5", ("nan",))
    assert (fault.machine, fault.start_s, fault.duration_s, fault.severity) == ("pump_1", 3, 2, 0.5)
    assert fault.is_on("pump_1", 4.9) and not fault.is_on("pump_1", 5)
    assert not fault.is_on("fan_2", 4)
    for text in ("nan", "nan@x", "inf@3", "nan@3+0", "nan@3*11"):
        with pytest.raises(ValueError, match="fault"):
            parse_scheduled(text, ("nan",))
