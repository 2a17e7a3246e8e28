"""The process that searches, started by `solver`.

Pickled messages with a length before each: a `Task` and then schedules of others come in on stdin,
`Report`s go out on stdout. When stdin ends, the parent is gone, and so is this process at once.
"""

from __future__ import annotations

import math
import os
import pickle
import random
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from shopfloor.scheduling.decoder import Decoder
from shopfloor.scheduling.local_search import Found, improve
from shopfloor.scheduling.model import Base, Model
from shopfloor.scheduling.problem import Assignment, Problem

_LENGTH = struct.Struct("<I")
_TWO_ROUNDS_S = 8.0
_FIRST_S = 10.0

ANNEAL, NEIGHBOURHOODS, WHOLE = "local search", "cp-sat", "cp-sat whole"
"""What a process does; also the stage in reports."""


@dataclass(frozen=True)
class Task:
    """What to search until `deadline` (steady seconds, the same in all processes of a host).

    hint: a plan of the problem, valid or not.
    """

    problem: Problem
    base: Base | None
    hint: tuple[Assignment, ...]
    role: str
    seed: int
    deadline: float
    workers: int = 1


@dataclass(frozen=True)
class Report:
    """A better plan by J less the cost of moves. No plan has a larger J than `bound`."""

    stage: str
    assignments: tuple[Assignment, ...]
    value: float
    violation: int
    bound: float


def write(stream: IO[bytes], message: Any) -> None:
    """One message, at once."""
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(content)) + content)
    stream.flush()


def unpack(received: bytearray) -> Iterator[Any]:
    """The complete messages at the head of what was received, which are removed from it."""
    while len(received) >= _LENGTH.size:
        length = _LENGTH.unpack(received[: _LENGTH.size])[0]
        if len(received) < _LENGTH.size + length:
            return
        content = bytes(received[_LENGTH.size : _LENGTH.size + length])
        del received[: _LENGTH.size + length]
        yield pickle.loads(content)


def read(stream: BinaryIO) -> Any:
    """The next message. Raises EOFError at the end."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    length = _LENGTH.unpack(head)[0]
    content = stream.read(length)
    if len(content) < length:
        raise EOFError
    # the other end of the pipe is this program's own parent or child
    return pickle.loads(content)


class _Search:
    def __init__(self, task: Task, out: BinaryIO) -> None:
        self.task = task
        self.out = out
        self.decoder = Decoder(Model(task.problem, task.base))
        self._lock = threading.Lock()
        self._other: tuple[Assignment, ...] | None = None

    def listen(self, stream: BinaryIO) -> None:
        """Runs on a thread of its own: the plans of others, and the end of the parent."""
        try:
            while True:
                plan = read(stream)
                with self._lock:
                    self._other = plan
        except EOFError:
            os._exit(0)

    def incoming(self) -> Found | None:
        """What others found since the last call."""
        with self._lock:
            plan, self._other = self._other, None
        return None if plan is None else self._found(plan)

    def _found(self, plan: tuple[Assignment, ...]) -> Found | None:
        candidate = self.decoder.candidate_of(plan)
        return None if candidate is None else Found(candidate, self.decoder.decode(candidate))

    def report(self, found: Found, bound: float = math.inf, stage: str = "") -> None:
        """Tell the parent. stage: what has found it, if not what the process is for."""
        plan = self.decoder.assignments(found.schedule)
        value, violation = found.schedule.value, found.schedule.violation
        write(self.out, Report(stage or self.task.role, plan, value, violation, bound))

    def _annealed(self, found: Found) -> None:
        self.report(found, stage=ANNEAL)

    def run(self) -> None:
        """Until the budget is spent or the best is proven."""
        task = self.task
        rng = random.Random(task.seed)
        start = self._found(task.hint)
        if start is None:
            raise ValueError("the hint is not a plan of the problem")
        bound = math.inf
        if task.role == ANNEAL:
            best = self._anneal(start, rng, task.deadline)
        else:
            from shopfloor.scheduling import large_neighbourhood

            left = task.deadline - time.monotonic()
            if task.role == WHOLE:
                if any(len(options) > 1 for options in self.decoder.model.options):
                    # where operations choose machines CP-SAT begins slowly from the plan of a rule
                    first = time.monotonic() + min(left / 4, _FIRST_S)
                    start = improve(self.decoder, start, rng, first, self._annealed)
                best, bound = large_neighbourhood.whole(
                    self.decoder, start, rng, task.deadline, self.report, task.workers
                )
            else:
                half = time.monotonic() + left / 2
                start = improve(self.decoder, start, rng, half, self._annealed)
                best = large_neighbourhood.search(
                    self.decoder, start, rng, task.deadline, self.report, self.incoming
                )
        self.report(best, bound)

    def _anneal(self, best: Found, rng: random.Random, deadline: float) -> Found:
        """One long round; where there is time, a second one from the best of all so far."""
        now = time.monotonic()
        if deadline - now > _TWO_ROUNDS_S:
            half = now + (deadline - now) / 2
            best = improve(self.decoder, best, rng, half, self.report)
        other = self.incoming()
        if other is not None and other.schedule.rank > best.schedule.rank:
            best = other
        return improve(self.decoder, best, rng, deadline, self.report)


def main() -> None:
    """Search what comes on stdin."""
    source, out = sys.stdin.buffer, sys.stdout.buffer
    search = _Search(read(source), out)
    threading.Thread(target=search.listen, args=(source,), daemon=True).start()
    search.run()
    os._exit(0)
