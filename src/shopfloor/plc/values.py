"""Values as PLCs have them: their types, ranges and registers. Pure.

Registers are 16 bits, high word first, strings UTF-8 padded with zeros, as PLCs expect of Modbus.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from enum import Enum
from typing import Any

DEFAULT_LENGTH = 64
"""Bytes of a string."""


class Kind(Enum):
    """Type of a value on the PLC's side."""

    BOOL = "bool"
    UINT8 = "uint8"
    UINT16 = "uint16"
    INT16 = "int16"
    UINT32 = "uint32"
    INT32 = "int32"
    UINT64 = "uint64"
    INT64 = "int64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    STRING = "string"


_FORMATS = {
    Kind.BOOL: ">H",
    Kind.UINT8: ">H",
    Kind.UINT16: ">H",
    Kind.INT16: ">h",
    Kind.UINT32: ">I",
    Kind.INT32: ">i",
    Kind.UINT64: ">Q",
    Kind.INT64: ">q",
    Kind.FLOAT32: ">f",
    Kind.FLOAT64: ">d",
}
_RANGES = {
    Kind.BOOL: (0, 1),
    Kind.UINT8: (0, 2**8 - 1),
    Kind.UINT16: (0, 2**16 - 1),
    Kind.INT16: (-(2**15), 2**15 - 1),
    Kind.UINT32: (0, 2**32 - 1),
    Kind.INT32: (-(2**31), 2**31 - 1),
    Kind.UINT64: (0, 2**64 - 1),
    Kind.INT64: (-(2**63), 2**63 - 1),
}
_FLOATS = (Kind.FLOAT32, Kind.FLOAT64)
_FLOAT32_MAX: float = struct.unpack(">f", b"\x7f\x7f\xff\xff")[0]

Value = bool | int | float | str


def registers_of(kind: Kind, length: int = DEFAULT_LENGTH) -> int:
    """How many registers a value takes."""
    if kind is Kind.STRING:
        return (length + 1) // 2
    return struct.calcsize(_FORMATS[kind]) // 2


def to_plc(kind: Kind, value: Any, length: int = DEFAULT_LENGTH, scale: float = 1.0) -> Value:
    """A field's value as the PLC's type has it: scaled, clipped to its range; never an error."""
    if kind is Kind.STRING:
        return str(value).encode()[:length].decode(errors="ignore")
    if kind in _FLOATS:
        number = float(value) * scale
        if kind is Kind.FLOAT32 and math.isfinite(number):
            return min(max(number, -_FLOAT32_MAX), _FLOAT32_MAX)
        return number
    number = float(value) * scale if scale != 1.0 else value
    low, high = _RANGES[kind]
    if isinstance(number, float):
        # What is not known has no whole number: the highest one stands for it.
        number = round(number) if math.isfinite(number) else high
    number = min(max(int(number), low), high)
    return bool(number) if kind is Kind.BOOL else number


def from_plc(kind: Kind, value: Any, length: int = DEFAULT_LENGTH) -> Value:
    """What a PLC brought, if it is of the kind. Raises ValueError naming it and what is allowed.

    A whole number is taken for a float; nothing else is turned into something else.
    """
    if kind is Kind.STRING:
        if not isinstance(value, str):
            raise ValueError(f"{_shown(value)} is not allowed; allowed: text")
        if len(value.encode(errors="replace")) > length:
            raise ValueError(f"longer than {length} bytes")
        return value
    if kind is Kind.BOOL:
        if not isinstance(value, bool):
            raise ValueError(f"{_shown(value)} is no bool")
        return value
    if kind in _FLOATS:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{_shown(value)} is not allowed; allowed: a number")
        if not math.isfinite(value):
            raise ValueError(f"{value} is not allowed; allowed: a finite number")
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{_shown(value)} is not allowed; allowed: a whole number")
    low, high = _RANGES[kind]
    if not low <= value <= high:
        raise ValueError(f"{value} is not allowed; allowed: {low} to {high}")
    return value


def to_registers(kind: Kind, value: Value, length: int = DEFAULT_LENGTH) -> list[int]:
    """The registers of a value of the PLC's type."""
    if kind is Kind.STRING:
        size = 2 * registers_of(kind, length)
        raw = str(value).encode()[:length].decode(errors="ignore").encode().ljust(size, b"\0")
    else:
        number = float(value) if kind in _FLOATS else int(value)
        raw = struct.pack(_FORMATS[kind], number)
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


def from_registers(kind: Kind, words: Sequence[int]) -> Value:
    """The value of registers. Raises ValueError where they hold none."""
    raw = struct.pack(f">{len(words)}H", *words)
    if kind is Kind.STRING:
        try:
            return raw.split(b"\0", 1)[0].decode()
        except UnicodeDecodeError:
            raise ValueError("text that is not UTF-8") from None
    value: int | float = struct.unpack(_FORMATS[kind], raw)[0]
    if kind is Kind.BOOL:
        if value not in (0, 1):
            raise ValueError(f"{value} is no bool; allowed: 0 or 1")
        return bool(value)
    if kind is Kind.UINT8:
        return from_plc(kind, value)
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
