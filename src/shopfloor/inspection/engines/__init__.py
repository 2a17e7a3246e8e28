"""Engines run a model; one file a backend, and this seam that they share.

An engine belongs to one thread. Backends are imported when they are asked for, so that a host
needs only the one that it uses.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shopfloor.inspection.model import ModelPackage

BACKENDS = {"onnxruntime": "shopfloor.inspection.engines.onnxruntime"}
"""Name of an engine -> module with a function `load(package, options) -> Engine`."""


class EngineError(Exception):
    """The engine can't be loaded or has failed; the message says which, on what, and why."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What all backends understand.

    threads: CPU threads for one inference. precision: asked for; empty: the model's own.
    """

    threads: int = 1
    precision: str = ""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """For provenance: `name` with version and device, and the precision that is really in use."""

    name: str
    precision: str


class Engine(Protocol):
    """A loaded model. All methods are called on one thread."""

    def infer(self, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Raw outputs for a (B, 3, H, W) batch; the arrays belong to the caller.

        Raises EngineError.
        """

    def close(self) -> None:
        """Free the model's memory and the device."""

    def describe(self) -> EngineInfo:
        """What runs the model."""


def load_engine(name: str, package: ModelPackage, options: EngineOptions) -> Engine:
    """Load `package` into the engine `name` and check its tensors; raises EngineError."""
    if name not in BACKENDS:
        raise EngineError(f"engine {name!r} is not known; allowed: {', '.join(BACKENDS)}")
    try:
        backend = importlib.import_module(BACKENDS[name])
    except ImportError as error:
        raise EngineError(f"engine {name} is not installed on this host: {error}") from error
    engine: Engine = backend.load(package, options)
    return engine
