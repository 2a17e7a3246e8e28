"""Training and evaluation images: DeepPCB pairs and the simulator's parts, held in memory.

DeepPCB (Tang et al. 2019, MIT) names its images BOARDnnn: the first five digits are one board
design, whose crops look alike. Whole boards are kept out of training, so the figures say what the
model does on a board that it has never seen; a tenth of the other boards' images is kept out too
and says what it does on a new part of a known board.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from . import REPO_ROOT

Image = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]

CLASSES = (
    "open", "short", "mousebite", "spur", "copper", "pinhole", "scratch", "inclusion", "patch",
)  # fmt: skip
TEST_BOARDS = ("44000", "77000")
VALIDATION_BOARDS = ("50600",)
SAME_BOARD_STEP = 10  # every tenth pair of a training board is kept out

# The simulator's seeds, disjoint by use. The product's demo and tests draw below the first.
TRAINING_SEEDS = 1_000_000
VALIDATION_SEEDS = 2_000_000
TEST_SEEDS = 3_000_000


@dataclass(frozen=True)
class Sample:
    """One part: image (H, W) grey or (H, W, 3) BGR, and boxes (M, 5) x1, y1, x2, y2 px, class.

    `template` is the defect-free twin of the image where there is one.
    """

    name: str
    image: Image
    boxes: Boxes
    template: Image | None = None


def data_folder(given: Path | None = None) -> Path:
    """The folder of data sets: as given, else SHOPFLOOR_DATA, else ../shared/data of the repo.

    Raises FileNotFoundError where it has no `deeppcb`.
    """
    folder = given or Path(os.environ.get("SHOPFLOOR_DATA", REPO_ROOT / "../shared/data"))
    if not (folder / "deeppcb" / "images").is_dir():
        raise FileNotFoundError(
            f"{folder}: no folder deeppcb/images here; set SHOPFLOOR_DATA to the data sets"
        )
    return folder


def deeppcb_split(folder: Path) -> dict[str, list[str]]:
    """Names of the pairs by use: train, validation, test (unseen boards), same_board."""
    names = sorted(path.stem for path in (folder / "deeppcb" / "boxes").glob("*.txt"))
    split: dict[str, list[str]] = {"train": [], "validation": [], "test": [], "same_board": []}
    seen: dict[str, int] = {}
    for name in names:
        board = name[:5]
        seen[board] = seen.get(board, 0) + 1
        if board in TEST_BOARDS:
            split["test"].append(name)
        elif board in VALIDATION_BOARDS:
            split["validation"].append(name)
        elif seen[board] % SAME_BOARD_STEP == 0:
            split["same_board"].append(name)
        else:
            split["train"].append(name)
    return split


def load_pair(folder: Path, name: str) -> Sample:
    """One DeepPCB pair. Raises ValueError naming the file for an unreadable image or box line."""
    images = []
    for kind in ("test", "temp"):
        path = folder / "deeppcb" / "images" / f"{name}_{kind}.jpg"
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise ValueError(f"{path}: not a readable image")
        images.append(np.asarray(image, np.uint8))
    path = folder / "deeppcb" / "boxes" / f"{name}.txt"
    rows = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    if any(len(row) != 5 for row in rows):
        raise ValueError(f"{path}: a line is not 'x1 y1 x2 y2 class'")
    boxes = np.array(rows, np.float32).reshape(-1, 5)
    boxes[:, 4] -= 1
    return Sample(name, images[0], boxes, images[1])


def load_pairs(folder: Path, names: Iterable[str]) -> list[Sample]:
    """DeepPCB pairs by name."""
    return [load_pair(folder, name) for name in names]


def pair_parts(pairs: Iterable[Sample]) -> list[Sample]:
    """Each pair as two parts: the defective image, and its template as a good part."""
    parts = []
    for pair in pairs:
        parts.append(Sample(f"{pair.name}_test", pair.image, pair.boxes))
        if pair.template is not None:
            nothing = np.zeros((0, 5), np.float32)
            parts.append(Sample(f"{pair.name}_temp", pair.template, nothing))
    return parts


def simulated_parts(kind: str, first_seed: int, count: int) -> list[Sample]:
    """Parts `first_seed` onwards of one kind ("board" or "steel") as the line shows them.

    About half of them are good.
    """
    from shopfloor.sim.parts import render

    parts = []
    for seed in range(first_seed, first_seed + count):
        part = render(kind, seed)
        parts.append(Sample(f"{kind}-{seed}", part.image, _rows(part.boxes, part.classes)))
    return parts


def simulated_pairs(kind: str, first_seed: int, count: int) -> list[Sample]:
    """Defective simulated parts, one to six defects each, with their defect-free twins."""
    from shopfloor.sim.parts import render

    pairs = []
    for seed in range(first_seed, first_seed + count):
        part, twin = render(kind, seed, defects=1 + seed % 6), render(kind, seed, defects=0)
        rows = _rows(part.boxes, part.classes)
        pairs.append(Sample(f"{kind}-{seed}", part.image, rows, twin.image))
    return pairs


def _rows(boxes: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]) -> Boxes:
    from shopfloor.sim.parts import CLASS_NAMES

    if CLASS_NAMES != CLASSES:
        raise ValueError(f"the simulator's classes are {CLASS_NAMES}, the model's {CLASSES}")
    return np.concatenate([boxes, classes[:, None]], axis=1).astype(np.float32)
