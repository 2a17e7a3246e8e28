"""Engines run a model; one file a backend, and this seam that they share.

An engine belongs to one thread. Backends are imported when they are asked for, so that a host
needs only the one that it uses.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shopfloor.inspection.model import ModelPackage

_HERE = "shopfloor.inspection.engines"
BACKENDS = {
    "onnxruntime": f"{_HERE}.onnxruntime",
    "onnxruntime-cuda": f"{_HERE}.onnxruntime",
    "onnxruntime-tensorrt": f"{_HERE}.onnxruntime",
    "openvino": f"{_HERE}.openvino",
    "tensorrt": f"{_HERE}.tensorrt",
}
"""Name of an engine -> module with a function `load(name, package, options) -> Engine`."""

Batch = npt.NDArray[Any]
"""(B, 3, H, W), of float32 or of uint8."""

PRECISIONS = ("float32", "float16", "bfloat16", "int8")


class EngineError(Exception):
    """The engine can't be loaded or has failed; the message says which, on what, and why."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What all backends understand.

    threads: CPU threads for one inference. precision: one of PRECISIONS; empty: float32.
    """

    threads: int = 1
    precision: str = ""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """For provenance: `name` with version and device, and the precision that is really in use."""

    name: str
    precision: str


class Engine(Protocol):
    """A loaded model. All methods are called by one thread at a time.

    takes_bytes: batches are uint8, as they lie in the picture; the engine makes of them on its
        device what the model wants. Else they are float32, scaled and normalised.
    works_beside: what `begin` began goes on while the caller does other work.
    """

    takes_bytes: bool
    works_beside: bool

    def infer(self, batch: Batch) -> list[npt.NDArray[np.float32]]:
        """Raw outputs for a (B, 3, H, W) batch; the arrays belong to the caller.

        Raises EngineError.
        """

    def begin(self, batch: Batch) -> Callable[[], list[npt.NDArray[np.float32]]]:
        """Begin `infer`, and give what waits for its outputs. Both raise EngineError.

        The caller may do other work before it waits, but must wait before it changes `batch` or
        begins again. An engine that has no thread of its own works while it is waited for.
        """

    def close(self) -> None:
        """Free the model's memory and the device."""

    def describe(self) -> EngineInfo:
        """What runs the model."""


class Synchronous(ABC):
    """An engine that works on its caller's thread."""

    takes_bytes = False
    works_beside = False

    @abstractmethod
    def infer(self, batch: Batch) -> list[npt.NDArray[np.float32]]:
        """See `Engine`."""

    def begin(self, batch: Batch) -> Callable[[], list[npt.NDArray[np.float32]]]:
        """All of the work is done while it is waited for."""
        return partial(self.infer, batch)


def load_engine(name: str, package: ModelPackage, options: EngineOptions) -> Engine:
    """Load `package` into the engine `name` and check its tensors; raises EngineError.

    Nothing has compared its outputs with the reference yet: a node takes
    `shopfloor.inspection.parity.open_engine`.
    """
    if name not in BACKENDS:
        raise EngineError(f"engine {name!r} is not known; allowed: {', '.join(BACKENDS)}")
    try:
        backend = importlib.import_module(BACKENDS[name])
    except ImportError as error:
        raise EngineError(f"engine {name} is not installed on this host: {error}") from error
    engine: Engine = backend.load(name, package, options)
    return engine


def chosen_precision(name: str, options: EngineOptions, allowed: tuple[str, ...]) -> str:
    """The precision asked for; raises EngineError when the engine `name` does not have it."""
    precision = options.precision or "float32"
    if precision not in allowed:
        raise EngineError(
            f"engine {name} has no precision {precision!r}; allowed: {', '.join(allowed)}"
        )
    return precision
