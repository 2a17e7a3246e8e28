"""The inspector's ladder: what it does at each rung, from full performance to hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from shopfloor.inspection.model import STRIDE, ModelPackage

NAME_BYTES = 64
MAX_RUNGS = 16


class Mode(Enum):
    """What happens to a frame."""

    INSPECT = "inspect"
    OFFLOAD = "offload"
    HOLD = "hold"


MODES = tuple(mode.value for mode in Mode)


class RungError(ValueError):
    """Parameters that make no ladder; `key` names the parameter."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True, slots=True)
class Variant:
    """A model package, and the longer side of its input in pixels; 0: the package's own.

    Another size needs an ONNX file with dynamic height and width. Where a package has a fixed one,
    a smaller input is a package of its own, exported at that size, with the same classes.
    """

    model: str
    input_px: int = 0


@dataclass(frozen=True, slots=True)
class Rung:
    """One step. stride: every so many frames one is taken."""

    index: int
    name: str
    mode: Mode
    stride: int
    variant: Variant


def make_rungs(
    model: str,
    *,
    names: Sequence[str],
    modes: Sequence[str],
    strides: Sequence[int],
    models: Sequence[str],
    inputs: Sequence[int],
) -> tuple[Rung, ...]:
    """The ladder, rung 0 first; an empty list, a model "" and an input 0 stand for the usual.

    Raises RungError.
    """
    count = len(names)
    if not 1 <= count <= MAX_RUNGS:
        raise RungError("rung_names", f"{count} rungs; allowed: 1 to {MAX_RUNGS}")
    for name in names:
        if not 1 <= len(name.encode()) <= NAME_BYTES:
            raise RungError("rung_names", f"{name!r}; allowed: 1 to {NAME_BYTES} bytes")
    if len(set(names)) != count:
        raise RungError("rung_names", f"{list(names)}; allowed: each name once")
    lists = {"rung_modes": modes, "rung_strides": strides, "rung_models": models,
             "rung_inputs": inputs}  # fmt: skip
    for key, values in lists.items():
        if len(values) not in (0, count):
            text = f"{len(values)} values; allowed: none, or one for each of the {count} rung_names"
            raise RungError(key, text)
    for side in inputs:
        if side % STRIDE:
            raise RungError("rung_inputs", f"{side}; allowed: multiples of {STRIDE}, 0")
    rungs = tuple(
        Rung(
            index,
            name,
            Mode(modes[index]) if modes else Mode.INSPECT,
            strides[index] if strides else 1,
            Variant((models[index] if models else "") or model, inputs[index] if inputs else 0),
        )
        for index, name in enumerate(names)
    )
    if rungs[0].mode is not Mode.INSPECT or rungs[0].stride != 1:
        raise RungError("rung_modes", "rung 0 is full performance; allowed: inspect, stride 1")
    return rungs


def resized(package: ModelPackage, longer_px: int) -> ModelPackage:
    """The package at another input size of the same proportions; 0: as it is.

    Whether its ONNX file takes that size shows when it is loaded.
    """
    form = package.input
    if longer_px in (0, max(form.width, form.height)):
        return package
    factor = longer_px / max(form.width, form.height)
    width, height = (
        max(STRIDE, -(-round(side * factor) // STRIDE) * STRIDE)
        for side in (form.width, form.height)
    )
    return replace(package, input=replace(form, width=width, height=height))
