"""Classic job shops, flexible or not, in the text formats in which they are handed around.

One unit of time is one second, and only the last end counts. What is known:

- "standard" rows (OR-Library, JSPLIB): `jobs machines`, then a line a job of machine and time in
  turn, machines from 0. Lines that begin with # are comments.
- Taillard's rows: a header in words, the numbers of it, `Times` with a line a job, and `Machines`
  with a line a job, machines from 1.
- collections of OR-Library: many of the first kind, each behind a line `instance NAME`.
- flexible rows (Brandimarte, Hurink, Dauzere-Peres; .fjs): `jobs machines [mean]`, then a line a
  job: number of operations, and for each the number of machines and then machine and time in turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from shopfloor.scheduling.problem import Job, Machine, Operation, Problem, ProblemError, Weights
from shopfloor.scheduling.validation import validate

MAKESPAN_ONLY = Weights(utilisation=1.0, tardiness=0.0, energy=0.0)
"""With these weights the best plan is the shortest one."""

Line = tuple[int, list[int]]
"""Number of the line in its file, and its numbers."""


def read_job_shop(name: str, text: str, instance: str = "") -> Problem:
    """A problem from any of the formats. Raises ProblemError naming line and what is wrong.

    instance: the one wanted, where the text is a collection.
    """
    lines = text.splitlines()
    sections = _sections(lines)
    if sections:
        if not instance and len(sections) == 1:
            instance = next(iter(sections))
        if instance not in sections:
            raise ProblemError([choose_one_of(instance, list(sections))])
        first, last = sections[instance]
        return _rows(instance, _numbers(lines, first, last))
    times = next((n for n, line in enumerate(lines) if _word(line) == "times"), None)
    orders = next((n for n, line in enumerate(lines) if _word(line) == "machines"), None)
    if times is not None and orders is not None:
        durations = [row for _, row in _numbers(lines, times + 1, orders)]
        machines = [row for _, row in _numbers(lines, orders + 1, len(lines))]
        return job_shop(name, durations, machines)
    return _rows(name, _numbers(lines, 0, len(lines)))


def choose_one_of(instance: str, names: Sequence[str]) -> str:
    """What to say where an instance has to be named."""
    asked = f"no instance '{instance}'" if instance else "it holds several instances, name one"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"{asked}: {', '.join(names[:20])}{more}"


def job_shop(
    name: str, durations: Sequence[Sequence[int]], machines: Sequence[Sequence[int]]
) -> Problem:
    """A job shop: durations[j][k] on machines[j][k]. Raises ProblemError."""
    if len(durations) != len(machines):
        raise ProblemError([f"{len(durations)} rows of times, {len(machines)} of machines"])
    rows = []
    for j, (order, times) in enumerate(zip(machines, durations, strict=True)):
        if len(order) != len(times):
            raise ProblemError([f"job {j}: {len(times)} times for {len(order)} machines"])
        rows.append([{str(m): d} for m, d in zip(order, times, strict=True)])
    return _classic(name, rows)


def _word(line: str) -> str:
    return line.strip().lower().rstrip(":")


def _sections(lines: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Instances of a collection: name to first line and the line after the last."""
    heads = []
    for n, line in enumerate(lines):
        match = re.fullmatch(r"\s*instance\s+(\S+)\s*", line)
        if match:
            heads.append((match[1], n))
    ends = [n for _, n in heads[1:]] + [len(lines)] if heads else []
    return {name: (n + 1, end) for (name, n), end in zip(heads, ends, strict=True)}


def _numbers(lines: Sequence[str], first: int, last: int) -> list[Line]:
    """Lines of numbers; words before the first of them are a title, behind them an error."""
    found: list[Line] = []
    for n in range(first, last):
        line = lines[n].split("#")[0].strip()
        if not line or set(line) <= set("+-= "):
            continue
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            if found and not _closes(lines[n:last]):
                raise ProblemError([f"line {n + 1}: not a row of numbers: '{line[:40]}'"]) from None
            continue
        if found and any(value != int(value) or value < 0 for value in row):
            raise ProblemError([f"line {n + 1}: {line[:40]}: allowed: whole numbers from 0"])
        found.append((n + 1, [int(value) for value in row]))
    return found


def _closes(lines: Sequence[str]) -> bool:
    """Whether only words follow, as behind the last instance of a collection."""
    return not any(re.match(r"\s*\d", line) for line in lines)


def _rows(name: str, lines: list[Line]) -> Problem:
    """A problem from `jobs machines` and a line a job."""
    if not lines or len(lines[0][1]) < 2:
        raise ProblemError(["the first line of numbers is not: jobs machines"])
    (_, (jobs, machines, *_)), rest = lines[0], lines[1:]
    if len(rest) != jobs:
        raise ProblemError([f"{jobs} jobs are promised, {len(rest)} rows follow"])
    if all(_is_standard(row, machines) for _, row in rest):
        return job_shop(name, [row[1::2] for _, row in rest], [row[::2] for _, row in rest])
    return _classic(name, [_flexible(number, row) for number, row in rest])


def _is_standard(row: list[int], machines: int) -> bool:
    """Machine and time in turn, each machine once."""
    order = sorted(row[::2])
    return len(row) == 2 * machines and order in (
        list(range(machines)),
        list(range(1, machines + 1)),
    )


def _flexible(number: int, row: list[int]) -> list[dict[str, int]]:
    numbers = iter(row)
    take: Callable[[], int] = numbers.__next__
    operations = []
    try:
        for _ in range(take()):
            count = take()
            options = {str(take()): take() for _ in range(count)}
            if not options or len(options) != count:
                raise ProblemError(
                    [f"line {number}: an operation with {count} machines, or twice one"]
                )
            operations.append(options)
    except StopIteration:
        raise ProblemError([f"line {number}: ends too early"]) from None
    left = len(list(numbers))
    if left:
        raise ProblemError([f"line {number}: {left} numbers too many"])
    return operations


def _classic(name: str, rows: Sequence[Sequence[dict[str, int]]]) -> Problem:
    machines = sorted({m for row in rows for options in row for m in options}, key=int)
    jobs = []
    for j, row in enumerate(rows):
        operations = []
        for k, options in enumerate(row):
            times = tuple(1000 * d for d in options.values())
            before = (f"{k - 1}",) if k else ()
            operations.append(Operation(f"{k}", tuple(options), times, min(times), before))
        jobs.append(Job(f"{j}", tuple(operations)))
    found = Problem(
        0, tuple(Machine(m) for m in machines), tuple(jobs), name, weights=MAKESPAN_ONLY
    )
    validate(found)
    return found
