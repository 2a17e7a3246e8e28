"""The serial port on a pseudo-terminal: half frames, garbage, a cable that is pulled."""

from __future__ import annotations

import contextlib
import os
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from shopfloor.vibration.serial_port import BAUD_RATES, SerialPort
from shopfloor.vibration.source_parameters import VibrationSourceParameters
from shopfloor.vibration.wire import SlipReader, slip

EVERY_BYTE = bytes(range(256))
"""Raw means raw: a terminal would eat ^C, ^D, ^Q, ^S and turn carriage returns."""


@pytest.fixture
def ends() -> Iterator[tuple[int, str]]:
    master, slave = os.openpty()
    yield master, os.ttyname(slave)
    os.close(slave)
    with contextlib.suppress(OSError):  # a test may have pulled it
        os.close(master)


def until(port: SerialPort, reader: SlipReader, frames: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < frames:
        data = port.read(10.0)
        assert data, "nothing came for 10 s"
        found += reader.feed(data)
    return found


@pytest.mark.parametrize("baud", BAUD_RATES)
def test_every_byte_comes_through_at_every_rate(ends: tuple[int, str], baud: int) -> None:
    master, path = ends
    with SerialPort(path, baud) as port:
        os.write(master, slip(EVERY_BYTE))
        assert until(port, SlipReader(), 1) == [EVERY_BYTE]


def test_half_frames_and_garbage_cost_only_themselves(ends: tuple[int, str]) -> None:
    master, path = ends
    tty.setraw(master)
    with SerialPort(path, 115200) as port:
        reader = SlipReader()
        half = slip(EVERY_BYTE)
        os.write(master, half[100:])  # plugged in amid a frame
        os.write(master, b"\xff\x00garbage\xdb")
        os.write(master, slip(b"first"))
        assert until(port, reader, 3)[-1] == b"first"
        os.write(master, half[:50])
        assert reader.feed(port.read(10.0)) == []
        os.write(master, half[50:])
        assert until(port, reader, 1) == [EVERY_BYTE]
        assert port.read(0.0) == b""


def test_a_pulled_cable_is_an_error_and_no_silence(ends: tuple[int, str]) -> None:
    master, path = ends
    with SerialPort(path, 115200) as port:
        os.close(master)
        with pytest.raises(OSError):
            while True:
                port.read(10.0)
        port.close()


def test_what_is_no_port_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "missing"):
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match=name):
            SerialPort(str(tmp_path / name), 115200)
        assert len(os.listdir("/proc/self/fd")) == before
    found = VibrationSourceParameters(source="serial", baud=12345).problems()
    assert [problem.key for problem in found] == ["address", "baud"]
    assert "115200" in str(found[1])
