"""Problems as JSON files that a person can write; the classic ones are read by `job_shop_files`.

Times in a file are seconds from `now`, so the same file can be planned on any day. Unknown keys are
errors, like everything that `validation.validate` finds. docs/scheduler.md has an example.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shopfloor.scheduling.job_shop_files import choose_one_of, job_shop, read_job_shop
from shopfloor.scheduling.problem import (
    Job,
    Machine,
    MachineKind,
    MachineState,
    Operation,
    Problem,
    ProblemError,
    Weights,
    Window,
)
from shopfloor.scheduling.validation import validate


def load_problem(path: Path, now: int = 0, instance: str = "") -> Problem:
    """A problem from a file: ours (JSON), or a classic job shop in a format of `job_shop_files`.

    instance: the one wanted, of a file with several (text, or JSON of name to `dur` and `mac`).
    Raises ProblemError naming the file and what is wrong, OSError where it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if not text.lstrip().startswith("{"):
            return read_job_shop(path.stem, text, instance)
        content = json.loads(text)
        names = [name for name, row in content.items() if isinstance(row, dict) and "dur" in row]
        if not names and not instance:
            return from_data(content, now)
        if instance not in names:
            raise ProblemError([choose_one_of(instance, names)])
        return job_shop(instance, content[instance]["dur"], content[instance]["mac"])
    except ProblemError as error:
        raise ProblemError([f"{path}: {line}" for line in error.problems]) from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ProblemError([f"{path}: {type(error).__name__}: {error}"]) from None


def from_data(data: Mapping[str, Any], now: int = 0) -> Problem:
    """A problem from the content of a file, with `now` in ms. Raises ProblemError."""
    reader = _Reader(now)
    try:
        problem = reader.problem(data)
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        reader.problems.append(f"{type(error).__name__}: {error}")
    if reader.problems:
        raise ProblemError(reader.problems)
    validate(problem)
    return problem


class _Reader:
    def __init__(self, now: int) -> None:
        self.now = now
        self.problems: list[str] = []

    def problem(self, data: Mapping[str, Any]) -> Problem:
        self._known("problem", data, "problem_id horizon machines jobs setups tariff weights note")
        setups = data.get("setups", {})
        tariff = data.get("tariff", {})
        self._known("setups", setups, "families seconds")
        self._known("tariff", tariff, "default windows")
        weights = data.get("weights", {})
        self._known("weights", weights, "utilisation tardiness energy")
        return Problem(
            now=self.now,
            problem_id=str(data.get("problem_id", "")),
            horizon=self._time(data.get("horizon")),
            machines=tuple(self._machine(row) for row in data["machines"]),
            jobs=tuple(self._job(row) for row in data["jobs"]),
            setup_families=tuple(setups.get("families", ())),
            setup_ms=tuple(tuple(_ms(s) for s in row) for row in setups.get("seconds", ())),
            tariff=self._windows(tariff.get("windows", ())),
            default_price=float(tariff.get("default", 0.0)),
            weights=Weights(**{name: float(value) for name, value in weights.items()}),
        )

    def _known(self, where: str, data: Mapping[str, Any], keys: str) -> None:
        allowed = keys.split()
        for key in data:
            if key not in allowed:
                self.problems.append(f"{where}: unknown key '{key}'; known: {', '.join(allowed)}")

    def _time(self, seconds: float | None) -> int | None:
        return None if seconds is None else self.now + _ms(seconds)

    def _windows(self, rows: Iterable[Any]) -> tuple[Window, ...]:
        found = []
        for row in rows:
            if not isinstance(row, Mapping):
                row = {"start": row[0], "end": row[1]}
            self._known("window", row, "start end price label")
            start, end = self.now + _ms(row["start"]), self.now + _ms(row["end"])
            value = float(row.get("price", 0.0))
            found.append(Window(start, end, value, str(row.get("label", ""))))
        return tuple(found)

    def _machine(self, row: Mapping[str, Any]) -> Machine:
        where = f"machine {row.get('id')}"
        self._known(
            where,
            row,
            "id line kind state state_reason state_until capacity speed_factor power_kw "
            "idle_power_kw calendar downtimes forbidden_with",
        )
        return Machine(
            machine_id=str(row["id"]),
            line=str(row.get("line", "")),
            kind=MachineKind[str(row.get("kind", "production")).upper()],
            state=MachineState[str(row.get("state", "up")).upper()],
            state_reason=str(row.get("state_reason", "")),
            state_until=self._time(row.get("state_until")),
            capacity=int(row.get("capacity", 1)),
            speed_factor=float(row.get("speed_factor", 1.0)),
            power_kw=float(row.get("power_kw", 0.0)),
            idle_power_kw=float(row.get("idle_power_kw", 0.0)),
            calendar=self._windows(row.get("calendar", ())),
            downtimes=self._windows(row.get("downtimes", ())),
            forbidden_with=tuple(row.get("forbidden_with", ())),
        )

    def _job(self, row: Mapping[str, Any]) -> Job:
        where = f"job {row.get('id')}"
        self._known(
            where,
            row,
            "id product quantity release due due_is_hard weight predecessors operations",
        )
        operations: list[Operation] = []
        for item in row["operations"]:
            operations.append(self._operation(where, item, operations))
        return Job(
            job_id=str(row["id"]),
            operations=tuple(operations),
            product=str(row.get("product", "")),
            quantity=int(row.get("quantity", 1)),
            release=self._time(row.get("release")),
            due=self._time(row.get("due")),
            due_is_hard=bool(row.get("due_is_hard", False)),
            weight=float(row.get("weight", 1.0)),
            predecessors=tuple(row.get("predecessors", ())),
        )

    def _operation(self, job: str, row: Mapping[str, Any], before: list[Operation]) -> Operation:
        where = f"{job} operation {row.get('id')}"
        self._known(
            where,
            row,
            "id machines standard predecessors setup_family resources pinned_machine pinned_start",
        )
        previous = (before[-1].operation_id,) if before else ()
        machines: Mapping[str, float] = row["machines"]
        durations = tuple(_ms(s) for s in machines.values())
        return Operation(
            operation_id=str(row["id"]),
            machine_ids=tuple(machines),
            durations_ms=durations,
            standard_ms=_ms(row["standard"]) if "standard" in row else min(durations, default=0),
            predecessors=tuple(row.get("predecessors", previous)),
            setup_family=str(row.get("setup_family", "")),
            resource_ids=tuple(row.get("resources", ())),
            pinned_machine=str(row.get("pinned_machine", "")),
            pinned_start=self._time(row.get("pinned_start")),
        )


def _ms(seconds: float) -> int:
    return round(float(seconds) * 1000)
