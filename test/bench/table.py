"""The result of a benchmark: rows that compare with a baseline of the same run.

A row is {key, value, unit, baseline, ratio, limit, note}; `limit` states the aim or the physical
bound in words. Nothing here asserts anything: a benchmark reports.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).resolve().parents[2] / "build" / "bench"


@dataclass(frozen=True)
class Row:
    """One figure. `ratio` is value / baseline; None where there is no baseline."""

    key: str
    value: float
    unit: str
    baseline: float | None = None
    limit: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """value / baseline."""
        return self.value / self.baseline if self.baseline else None


class Results:
    """Collects the rows of one benchmark and shows them at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[Row] = []

    def add(
        self,
        key: str,
        value: float,
        unit: str,
        baseline: float | None = None,
        limit: str = "",
        note: str = "",
    ) -> None:
        """One more figure."""
        self.rows.append(Row(key, value, unit, baseline, limit, note))

    def finish(self) -> Path:
        """Print the table and write `build/bench/NAME.json`; returns the file."""
        table = Table(title=f"bench {self.name} ({platform.machine()}, {os.cpu_count()} cores)")
        for column in ("key", "value", "unit", "baseline", "ratio", "limit", "note"):
            table.add_column(column, justify="right" if column in _NUMBERS else "left")
        for row in self.rows:
            table.add_row(
                row.key, _short(row.value), row.unit, _short(row.baseline), _short(row.ratio),
                row.limit, row.note,
            )  # fmt: skip
        Console(width=None if os.isatty(1) else 160).print(table)
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{self.name}.json"
        rows = [{**asdict(row), "ratio": row.ratio} for row in self.rows]
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print(f"written: {path}")
        return path


def run(main: Callable[[], None]) -> None:
    """The program of a benchmark: Ctrl-C ends it with exit code 130, without a table."""
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


_NUMBERS = ("value", "baseline", "ratio")


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if math.isfinite(value) else str(value)
