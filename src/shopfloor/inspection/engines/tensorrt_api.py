"""TensorRT's module, its log, and what depends on its major version."""

from __future__ import annotations

import importlib
import logging
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)

MODULES = ("tensorrt", "tensorrt_rtx")
"""TensorRT, and TensorRT for RTX, which has the same interface."""


def import_tensorrt() -> ModuleType:
    """The installed one; raises ImportError naming both."""
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError(f"none of {', '.join(MODULES)} can be imported")


def strongly_typed(trt: Any) -> bool:
    """Whether precision lives in the ONNX file alone.

    Up to TensorRT 10 the builder has a flag per precision and chooses layer by layer; from 11 on,
    and in TensorRT for RTX, the flags are gone.
    """
    return not hasattr(trt.BuilderFlag, "FP16")


def make_log(trt: Any) -> Any:
    """A logger of TensorRT's own kind that keeps the errors: its calls only return None."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                logger.warning("TensorRT: %s", message)

        def reason(self) -> str:
            """The last error in one line."""
            return self.errors[-1].strip() if self.errors else "no reason given"

    return Log()
