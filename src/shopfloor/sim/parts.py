"""Parts for the simulated line: deterministic pictures with known defects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.sim.board_defects import BOARD_DEFECTS
from shopfloor.sim.boards import render_board
from shopfloor.sim.steel import STEEL_DEFECTS, render_steel

KINDS = ("board", "steel")

CLASS_NAMES = (*BOARD_DEFECTS, *STEEL_DEFECTS)
"""Class index of a defect -> its name; the list of the shipped model."""

MIN_SIZE_PX, MAX_SIZE_PX = 160, 4096

_COUNTS = (0.30, 0.25, 0.18, 0.12, 0.09, 0.06)  # of 1..6 defects on a defective part


@dataclass(frozen=True)
class RenderedPart:
    """A picture of a part and the truth about it."""

    kind: str
    seed: int
    image: npt.NDArray[np.uint8]
    """(H, W, 3), bgr."""
    boxes: npt.NDArray[np.float32]
    """(N, 4): x1, y1, x2, y2 in pixels."""
    classes: npt.NDArray[np.int64]
    """(N,): indices into CLASS_NAMES."""
    defective: bool


def defect_count(kind: str, seed: int) -> int:
    """How many defects `render` wants on this part: 0 for about half of the seeds, else 1..6."""
    _check(kind, seed)
    rng = np.random.default_rng([seed, 1 + KINDS.index(kind)])
    if rng.random() < 0.5:
        return 0
    return 1 + int(rng.choice(len(_COUNTS), p=_COUNTS))


def render(kind: str, seed: int, size_px: int = 640, *, defects: int | None = None) -> RenderedPart:
    """Draw the part `seed` of `kind` ("board" or "steel"); the same arguments, the same bytes
    (of one OpenCV version: the next may anti-alias another way).

    `defects` asks for that many defects (0: the good twin of the same part); None lets the seed
    decide. A crowded part may carry fewer than asked for; `boxes` names those that are there.
    Raises ValueError on an unknown kind, a negative seed or a size outside 160..4096 px.
    """
    _check(kind, seed)
    wanted = defect_count(kind, seed) if defects is None else defects
    if wanted < 0:
        raise ValueError(f"defects must be 0 or more, got {defects}")
    if not MIN_SIZE_PX <= size_px <= MAX_SIZE_PX:
        raise ValueError(f"size_px must be {MIN_SIZE_PX}..{MAX_SIZE_PX}, got {size_px}")
    draw = (render_board, render_steel)[KINDS.index(kind)]
    image, boxes, names = draw(seed, size_px, wanted)
    return RenderedPart(
        kind=kind,
        seed=seed,
        image=image,
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        classes=np.array([CLASS_NAMES.index(name) for name in names], dtype=np.int64),
        defective=bool(boxes),
    )


def _check(kind: str, seed: int) -> None:
    if kind not in KINDS:
        raise ValueError(f"unknown kind of part {kind!r}, known are {', '.join(KINDS)}")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
