"""Which engine is the fastest on this machine, of those that may serve."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import yaml

from shopfloor.inspection.engines import (
    BACKENDS,
    PRECISIONS,
    Batch,
    EngineError,
    EngineOptions,
    load_engine,
)
from shopfloor.inspection.model import ModelPackage
from shopfloor.inspection.parity import (
    REFERENCE,
    TOLERANCES,
    Parity,
    batches,
    check_parity,
    parity_pictures,
    reference_outputs,
)

WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a node can be told to run: its parameters `engine`, `precision` and `threads`."""

    engine: str
    precision: str
    threads: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate on this machine. complaint: why it may not serve or does not run; empty: it may.

    times_ms: of single inferences, unsorted; empty where it does not run.
    """

    candidate: Candidate
    info: str
    parity: Parity | None
    times_ms: tuple[float, ...]
    complaint: str = ""

    @property
    def p50_ms(self) -> float:
        """Median, NaN where it does not run."""
        return float(np.median(self.times_ms)) if self.times_ms else float("nan")

    @property
    def p99_ms(self) -> float:
        """99th percentile, NaN where it does not run."""
        return float(np.percentile(self.times_ms, 99)) if self.times_ms else float("nan")


def candidates(
    engines: Sequence[str] = tuple(BACKENDS),
    precisions: Sequence[str] = PRECISIONS,
    threads: Sequence[int] = (1,),
) -> list[Candidate]:
    """All combinations; threads count on the CPU only."""
    return [
        Candidate(engine, precision, count)
        for engine in engines
        for precision in precisions
        for count in (threads if engine in ("onnxruntime", "openvino") else threads[:1])
    ]


class Bench:
    """Loads, compares and times one candidate after the other.

    seconds: of timing for each. Raises EngineError where the reference itself does not run.
    """

    def __init__(
        self,
        package: ModelPackage,
        seconds: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._package = package
        self._seconds = seconds
        self._clock = clock
        self._pictures = parity_pictures(package)
        self._reference = reference_outputs(package, batches(package, self._pictures))

    def measure(self, candidate: Candidate) -> Measured:
        """Never raises for an engine that is missing, refuses or fails: that is a result."""
        options = EngineOptions(candidate.threads, candidate.precision)
        try:
            engine = load_engine(candidate.engine, self._package, options)
        except EngineError as error:
            return Measured(candidate, "", None, (), str(error))
        info = engine.describe().name
        parity: Parity | None = None
        try:
            precision = engine.describe().precision
            inputs = batches(self._package, self._pictures, as_bytes=engine.takes_bytes)
            parity = check_parity(
                self._package,
                engine,
                self._reference,
                inputs,
                TOLERANCES[precision],
                is_reference=(candidate.engine, precision) == (REFERENCE, "float32"),
            )
            times_ms = tuple(1e3 * t for t in self._time(engine.infer, inputs))
        except EngineError as error:
            return Measured(candidate, info, parity, (), str(error))
        finally:
            engine.close()
        return Measured(candidate, info, parity, times_ms, parity.complaint)

    def _time(self, infer: Callable[[Batch], object], inputs: Sequence[Batch]) -> Iterator[float]:
        for _ in range(WARM_UP):
            infer(inputs[0])
        end = self._clock() + self._seconds
        index = 0
        while index < 3 or self._clock() < end:
            batch = inputs[index % len(inputs)]
            started = self._clock()
            infer(batch)
            yield self._clock() - started
            index += 1


def fastest(measured: Sequence[Measured]) -> Measured | None:
    """The one with the least median of those that may serve; None where there is none."""
    good = [m for m in measured if m.times_ms and not m.complaint]
    return min(good, key=lambda m: m.p50_ms, default=None)


def plant_fragment(choice: Measured, package: ModelPackage, host: str) -> str:
    """The choice as parameters of an inspector in a plant file."""
    candidate = choice.candidate
    values = {
        "parameters": {
            "model": f"{package.name}/{package.version}",
            "engine": candidate.engine,
            "precision": candidate.precision,
            "threads": candidate.threads,
        }
    }
    return (
        f"# The fastest on {host} that agrees with the reference: {choice.info}, "
        f"{choice.p50_ms:.1f} ms p50, {choice.p99_ms:.1f} ms p99.\n"
        "# Put it under the inspector's node in the plant file.\n"
        + yaml.safe_dump(values, sort_keys=False)
    )
