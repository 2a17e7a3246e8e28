"""The tensors of a loaded model against what its model.yaml says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shopfloor.inspection.engines import EngineError
from shopfloor.inspection.model import ModelPackage
from shopfloor.inspection.yolo import OutputError


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output as the engine reports it; a length of None is decided at run time."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def check_tensors(
    package: ModelPackage,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    input_dtype: str = "float32",
) -> None:
    """Raise EngineError, naming file and tensor, unless the model takes and gives what is said.

    input_dtype: uint8 where the engine's own file was made to take pixels as bytes.
    There must be one input. Of several outputs the first is the one that is decoded.
    """
    form = package.input
    names = [tensor.name for tensor in inputs]
    if names != [form.name]:
        raise EngineError(
            f"{package.path}: input tensors are {names}; model.yaml says '{form.name}'"
        )
    given, wanted = inputs[0], (1, 3, form.height, form.width)
    if given.dtype != input_dtype or not _fits(given.shape, wanted):
        raise EngineError(
            f"{package.path}: input tensor '{given.name}' is {given.dtype} {_text(given.shape)}; "
            f"{'model.yaml says' if input_dtype == 'float32' else 'needed:'} "
            f"{input_dtype} {list(wanted)}"
        )
    if not outputs:
        raise EngineError(f"{package.path}: the model has no output tensor")
    output = outputs[0]
    if output.dtype != "float32":
        raise EngineError(
            f"{package.path}: output tensor '{output.name}' is {output.dtype}; allowed: float32"
        )
    try:
        package.output.check(output.name, output.shape)
    except OutputError as error:
        raise EngineError(f"{package.path}: {error}") from error


def _fits(given: tuple[int | None, ...], wanted: tuple[int, ...]) -> bool:
    return len(given) == len(wanted) and all(
        length is None or length == asked for length, asked in zip(given, wanted, strict=True)
    )


def _text(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('any' if length is None else str(length) for length in shape)}]"
