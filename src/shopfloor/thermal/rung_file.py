"""The rung that was in force, kept in a file: a watchdog that is started again begins there.

A board that is held at a rung settles below its limit by design, so its temperatures alone would
say that full speed is safe.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shopfloor.thermal.rungs import Rung

YOUNG_S = 600.0
"""What is older says nothing about the board of now."""

REPEAT_S = 60.0
"""A rung that stays is written again after this time, so that its file does not age."""

_FORMAT = 1
_LARGEST_BYTES = 10_000


def to_json(rung: Rung, unix_s: float) -> str:
    """The rung at that time; for `board_file.write`."""
    return json.dumps(
        {"format": _FORMAT, "rung": rung.index, "name": rung.name, "unix_s": round(unix_s, 3)}
    )


def read(path: Path, rungs: Sequence[Rung], unix_s: float) -> int:
    """The rung to begin at.

    0 where there is no file, where it is old or of the future, or where the ladder has no such rung
    any more. Raises ValueError, in words, for a file that is none.
    """
    try:
        with path.open(encoding="utf-8") as file:
            content: Any = json.loads(file.read(_LARGEST_BYTES))
        if content["format"] != _FORMAT:
            raise ValueError("of another version")
        index, name, age_s = int(content["rung"]), content["name"], unix_s - content["unix_s"]
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is no file of a rung: {error!r}") from error
    known = 0 <= index < len(rungs) and rungs[index].name == name
    return index if known and 0.0 <= age_s <= YOUNG_S else 0
