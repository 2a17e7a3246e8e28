"""The header on the wire of the simulated camera: there and back, and everything that is none."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest
from frame_socket_tools import HEADER

from shopfloor.ros.frame_socket import (
    HEADER_BYTES,
    ProtocolError,
    pack_header,
    unpack_header,
)


def test_header_there_and_back() -> None:
    data = pack_header(HEADER)
    assert len(data) == HEADER_BYTES
    assert unpack_header(data) == HEADER


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "size 0 x 2 px"),
        ({"height": 16385}, r"1\.\.16384"),
        ({"payload_bytes": 64 * 1024 * 1024 + 1}, "at most 67108864"),
        ({"encoding": "h264"}, "'h264' is not one of mono8"),
        ({"part_id": "x" * 65}, "65 bytes, at most 64"),
    ],
)
def test_fields_beyond_their_limits_are_not_sent(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        pack_header(dataclasses.replace(HEADER, **changes))  # type: ignore[arg-type]


def poked(offset: int, data: bytes) -> bytes:
    good = bytearray(pack_header(HEADER))
    good[offset : offset + len(data)] = data
    return bytes(good)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (poked(0, b"HTTP"), "bad magic b'HTTP'"),
        (poked(4, struct.pack("<H", 2)), "version 2"),
        (poked(6, struct.pack("<H", 9)), "header of 9 bytes"),
        (poked(8, struct.pack("<I", 2**32 - 1)), "size 4294967295 x 2"),
        (poked(16, struct.pack("<I", 2**32 - 1)), "payload of 4294967295 bytes"),
        (poked(20, b"\xff\xfe"), "is no text"),
        (poked(20, b"jpeg\0"), "'jpeg"),
        (pack_header(HEADER)[:-1], f"a header has {HEADER_BYTES} bytes"),
    ],
)
def test_a_wrong_header_is_named(data: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        unpack_header(data)


def test_random_bytes_are_never_a_frame() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        with pytest.raises(ProtocolError):
            unpack_header(rng.bytes(HEADER_BYTES))
