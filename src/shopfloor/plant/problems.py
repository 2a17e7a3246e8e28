"""What is wrong with a plant file: where, what, and what is allowed. Always all of it at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong; `str()` is `FILE:LINE: key.path: message`."""

    file: str
    line: int
    where: str
    message: str

    def __str__(self) -> str:
        where = f" {self.where}:" if self.where else ""
        return f"{self.file}:{self.line}:{where} {self.message}"


class PlantError(Exception):
    """A plant that cannot be used; `problems` lists everything found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def listed(names: Iterable[str]) -> str:
    """Names for a message: `a, b, c`; `none` when there are none."""
    return ", ".join(names) or "none"


def counted(count: int, one: str, many: str = "") -> str:
    """`1 host`, `2 hosts`; many: the plural where it is not `one` with an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? ` where a known name is close, otherwise empty."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'? " if close else ""
