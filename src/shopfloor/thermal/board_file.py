"""What was learnt of a board, kept in a file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shopfloor.thermal.learning import (
    DIE_TAUS_S,
    KNOWN_WEIGHT,
    MODELS,
    SINK_TAUS_S,
    SINK_TO_DIE,
    BoardMemory,
)

_FORMAT = 1
_GRID = [*DIE_TAUS_S, *SINK_TAUS_S, *SINK_TO_DIE]
_LARGEST_BYTES = 1_000_000


def to_json(memories: Mapping[str, BoardMemory]) -> str:
    """The memory of each zone of which something is known."""
    zones = {
        name: {
            "windows": memory.windows,
            "weight": memory.weight,
            "evidence": [round(float(value), 3) for value in memory.evidence],
        }
        for name, memory in memories.items()
        if memory.windows
    }
    return json.dumps({"format": _FORMAT, "grid": _GRID, "zones": zones})


def write(path: Path, text: str) -> None:
    """Atomically: a crash leaves the old file or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def read(path: Path) -> dict[str, BoardMemory]:
    """By zone; empty where there is no file. Raises ValueError, in words, for any other file."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ValueError(f"{path}: larger than {_LARGEST_BYTES} bytes")
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT or content["grid"] != _GRID:
            raise ValueError("of another version")
        return {str(name): _memory(zone) for name, zone in content["zones"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no file of learned boards: {error!r}") from error


def _memory(zone: Any) -> BoardMemory:
    evidence = np.array(zone["evidence"], dtype=np.float64)
    windows, weight = int(zone["windows"]), float(zone["weight"])
    if evidence.shape != (MODELS,) or not np.isfinite(evidence).all():
        raise ValueError(f"evidence: {MODELS} finite numbers are allowed")
    if windows < 1 or not (math.isfinite(weight) and 0.0 < weight <= KNOWN_WEIGHT):
        raise ValueError(f"windows {windows}, weight {weight}")
    return BoardMemory(evidence - evidence.max(), windows, weight)
