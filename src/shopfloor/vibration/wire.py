"""Blocks over UDP: the wire format of acquisition boxes and gateways.

One datagram is one block: a head of 52 bytes, little-endian, then its strings, then samples.

| field | type | meaning |
|---|---|---|
| magic | 4 bytes | `SFVB` |
| version | u8 | 1 |
| unit | u8 | 1 m/s^2, 2 mm/s, 3 um, 4 A, 5 V; 0 not known |
| channels | u8 | 1..16 |
| flags | u8 | bit 0: samples are int16 of full scale / 32767, else float32 |
| samples | u32 | per channel, at least 1 |
| sequence | u64 | block counter of the sensor; a gap means lost blocks |
| stamp_ns | i64 | first sample, UTC nanoseconds since 1970; 0: the sender has no clock |
| rate_hz | f64 | per channel |
| full_scale | f32 | in the unit; NaN: not known |
| speed_rpm | f32 | shaft speed; NaN: not known |
| lengths | 3 x u8 | bytes of machine id, sensor id, channel names (joined by commas) |
| bias | u8 | 1: one f32 of IEPE bias in volts per channel stands before the samples |
| crc32 | u32 | of everything behind the head (zlib) |
| strings | UTF-8 | machine id, sensor id, channel names |
| bias_v | f32 each | only with bias = 1 |
| samples | int16 or f32 | channel-major |

A serial link carries the same datagrams in SLIP frames (RFC 1055), one behind the other.
"""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np

from shopfloor.vibration.signal import Block, Unit

MAGIC, VERSION = b"SFVB", 1
MAX_DATAGRAM = 65_507
_HEAD = struct.Struct("<4sBBBBIQqdff3BBI")
_INT16 = 1
_END, _ESC, _ESC_END, _ESC_ESC = b"\xc0", b"\xdb", b"\xdc", b"\xdd"


class WireError(ValueError):
    """A datagram that is no block; the message says what is wrong with it."""


def encode(block: Block, speed_rpm: float = math.nan, *, int16: bool = False) -> bytes:
    """The datagram of a block. Raises WireError where it does not fit into one."""
    strings = [
        text.encode() for text in (block.machine_id, block.sensor_id, ",".join(block.channels))
    ]
    if any(len(text) > 255 for text in strings):
        raise WireError("ids and channel names must have at most 255 bytes each")
    if int16:
        if not block.full_scale > 0:
            raise WireError("int16 samples need a full scale")
        scaled = np.clip(np.rint(block.data * (32767 / block.full_scale)), -32767, 32767)
        samples = scaled.astype("<i2").tobytes()
    else:
        samples = block.data.astype("<f4").tobytes()
    bias = np.asarray(block.bias_v, "<f4").tobytes()
    body = b"".join([*strings, bias, samples])
    head = _HEAD.pack(
        MAGIC, VERSION, int(block.unit), len(block.channels), _INT16 if int16 else 0,
        block.data.shape[1], block.sequence, block.stamp_ns, block.sample_rate_hz,
        block.full_scale, speed_rpm, *map(len, strings), 1 if block.bias_v else 0,
        zlib.crc32(body),
    )  # fmt: skip
    if len(head) + len(body) > MAX_DATAGRAM:
        raise WireError(f"{len(head) + len(body)} bytes; a datagram holds {MAX_DATAGRAM}")
    return head + body


def decode(datagram: bytes, received_ns: int) -> tuple[Block, float]:
    """The block of a datagram and the shaft speed in rpm, NaN: not known. Raises WireError."""
    if len(datagram) < _HEAD.size:
        raise WireError(f"{len(datagram)} bytes are less than a head of {_HEAD.size}")
    (magic, version, unit, channels, flags, samples, sequence, stamp_ns, rate_hz, full_scale,
     speed_rpm, *lengths, has_bias, crc) = _HEAD.unpack_from(datagram)  # fmt: skip
    if magic != MAGIC or version != VERSION:
        raise WireError(f"magic {magic!r} version {version}; expected {MAGIC!r} {VERSION}")
    body = memoryview(datagram)[_HEAD.size :]
    width = 2 if flags & _INT16 else 4
    expected = sum(lengths) + 4 * channels * bool(has_bias) + width * channels * samples
    if len(body) != expected:
        raise WireError(f"{len(body)} bytes behind the head, its fields ask for {expected}")
    if zlib.crc32(body) != crc:
        raise WireError("checksum does not fit")
    if not 1 <= channels <= 16 or not samples:
        raise WireError(f"{channels} channels of {samples} samples")
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise WireError(f"sample rate {rate_hz} Hz")
    if flags & _INT16 and not full_scale > 0:
        raise WireError("int16 samples without a full scale")
    texts, at = [], 0
    for length in lengths:
        try:
            texts.append(bytes(body[at : at + length]).decode())
        except UnicodeDecodeError as error:
            raise WireError(f"a string is not UTF-8: {error}") from None
        at += length
    names = tuple(texts[2].split(","))
    if len(names) != channels or not texts[0] or not texts[1]:
        raise WireError(f"ids and {channels} channel names expected, got {texts}")
    bias: tuple[float, ...] = ()
    if has_bias:
        bias = tuple(np.frombuffer(body, "<f4", channels, at).tolist())
        at += 4 * channels
    if flags & _INT16:
        data = np.frombuffer(body, "<i2", channels * samples, at).astype(np.float32)
        data *= np.float32(full_scale / 32767)
    else:
        data = np.frombuffer(body, "<f4", channels * samples, at).astype(np.float32)
    try:
        known_unit = Unit(unit)
    except ValueError:
        raise WireError(f"unit {unit}; known: 0 to {max(Unit)}") from None
    block = Block(
        texts[0], texts[1], sequence, stamp_ns or received_ns - round(samples / rate_hz * 1e9),
        received_ns, rate_hz, names, known_unit, data.reshape(channels, samples), full_scale, bias,
    )  # fmt: skip
    return block, speed_rpm


def slip(datagram: bytes) -> bytes:
    """A datagram as a SLIP frame (RFC 1055)."""
    escaped = datagram.replace(_ESC, _ESC + _ESC_ESC).replace(_END, _ESC + _ESC_END)
    return _END + escaped + _END


class SlipReader:
    """Datagrams out of a byte stream; what is no frame is skipped by the next END."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The datagrams that are complete now; each still has to pass `decode`."""
        self._buffer += data
        *frames, rest = bytes(self._buffer).split(_END)
        # Without an END within two datagrams the stream is no SLIP: forget it.
        self._buffer = bytearray(rest if len(rest) <= 2 * MAX_DATAGRAM else b"")
        return [
            frame.replace(_ESC + _ESC_END, _END).replace(_ESC + _ESC_ESC, _ESC)
            for frame in frames
            if frame
        ]
