"""Training images by source, each with its view on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from .data import (
    TRAINING_SEEDS,
    Sample,
    deeppcb_split,
    load_neu,
    load_pairs,
    neu_split,
    simulated_pairs,
)
from .recipes import BOARD_CLASSES, NEU_CLASSES, SIMULATED_CLASSES, Recipe

NEU_PICTURE_PX = 200


@dataclass(frozen=True)
class View:
    """How a source's pictures are shown to the network.

    span: longest side in px that a whole picture has in the network's input, 0 for its own size.
    scales: range of random zoom around that. aimed: share of crops laid over a defect. mosaic:
    share of pictures made of four. transposed: turns by 90 degrees too. negatives: binarised
    boards are also shown with copper and gap swapped.
    """

    span: float = 0.0
    scales: tuple[float, float] = (0.7, 1.4)
    aimed: float = 0.7
    mosaic: float = 0.0
    transposed: bool = True
    negatives: bool = False


VIEWS = {
    "deeppcb": View(negatives=True),
    "board": View(),
    "steel": View(),
    # Rolling gives strip a direction: turned by 90 degrees it does not occur.
    "neu": View(span=1.0, scales=(0.75, 1.6), aimed=0.3, mosaic=0.5, transposed=False),
}


@dataclass(frozen=True)
class Source:
    """A source's parts, classes as the recipe's, and its share of a batch."""

    name: str
    parts: list[Sample]
    share: float
    view: View


def load_sources(folder: Path, recipe: Recipe) -> list[Source]:
    """The recipe's training parts. Raises KeyError on an unknown source."""
    sources = []
    for name, share in recipe.sources.items():
        if name == "deeppcb":
            parts, classes = load_pairs(folder, deeppcb_split(folder)["train"]), BOARD_CLASSES
        elif name == "neu":
            parts, classes = load_neu(folder, neu_split(folder)["train"]), NEU_CLASSES
        elif name in ("board", "steel"):
            parts = simulated_pairs(name, TRAINING_SEEDS, recipe.simulated)
            classes = SIMULATED_CLASSES
        else:
            raise KeyError(f"unknown source {name!r}, known are {', '.join(VIEWS)}")
        renamed = with_classes(parts, classes, recipe.classes)
        view = replace(VIEWS[name], scales=recipe.scales) if recipe.scales else VIEWS[name]
        sources.append(Source(name, renamed, share, view))
    return sources


def with_classes(
    parts: list[Sample], given: tuple[str, ...], wanted: tuple[str, ...]
) -> list[Sample]:
    """The parts with their class indices in `wanted`. Raises ValueError where a name is missing."""
    renamed = []
    for part in parts:
        boxes = part.boxes.copy()
        boxes[:, 4] = [wanted.index(given[int(k)]) for k in part.boxes[:, 4]]
        renamed.append(Sample(part.name, part.image, boxes, part.template))
    return renamed
