"""Messages as flat fields, for comparing and hashing: CDR bytes differ in their padding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from shopfloor.replay.rules import OF_THE_RUN, covers

Value = bool | int | float | str | bytes


def flatten(message: Any, path: str = "") -> Iterator[tuple[str, str, Value]]:
    """Path without indices, path with them, value; a stamp counts as one value in ns.

    Each list also yields its length, as `PATH.length`.
    """
    yield from _walk(message, path, path)


def _walk(value: Any, path: str, exact: str) -> Iterator[tuple[str, str, Value]]:
    if hasattr(value, "nanosec"):
        yield path, exact, value.sec * 1_000_000_000 + value.nanosec
    elif is_dataclass(value):
        for name in (f.name for f in fields(value)):
            if not name.isupper() and not name.startswith("_"):  # constants, and the type's name
                dot = "." if path else ""
                child = getattr(value, name)
                yield from _walk(child, f"{path}{dot}{name}", f"{exact}{dot}{name}")
    elif isinstance(value, np.ndarray) and value.dtype.kind in "uib" and value.itemsize == 1:
        yield path, exact, value.tobytes()
    elif isinstance(value, (list, tuple, np.ndarray)):
        items = value.tolist() if isinstance(value, np.ndarray) else value
        yield f"{path}.length", f"{exact}.length", len(items)
        for index, item in enumerate(items):
            yield from _walk(item, path, f"{exact}[{index}]")
    else:
        yield path, exact, value.item() if isinstance(value, np.generic) else value


class OutputHash:
    """SHA-256 of all outputs, by topic, stamp and fields."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}

    def add(self, topic: str, stamp_ns: int, message: Any) -> None:
        """Take in one message; those of a topic in their order."""
        digest = self._sums.setdefault(topic, hashlib.sha256())
        digest.update(f"@{stamp_ns}\n".encode())
        for path, exact, value in flatten(message):
            if not covers(OF_THE_RUN, path):
                text = value.hex() if isinstance(value, (bytes, float)) else repr(value)
                digest.update(f"{exact}={text}\n".encode())

    @property
    def by_topic(self) -> dict[str, str]:
        """The hash of each topic."""
        return {topic: digest.hexdigest() for topic, digest in sorted(self._sums.items())}

    @property
    def total(self) -> str:
        """One hash of all topics."""
        lines = [f"{topic} {value}\n" for topic, value in self.by_topic.items()]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
