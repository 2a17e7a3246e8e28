"""Training and evaluation images, held in memory: DeepPCB, NEU-DET and the simulator's parts.

No picture of a held-out set is ever trained on. What near-copies of one may be is said here:

- DeepPCB (Tang et al. 2019, MIT) names its pairs BOARDnnn: the first five digits are one board
  design. Every tenth pair of each board is held out, both pictures together. They show new parts
  of known designs, as DeepPCB's own random split does: other pictures of the same place of the
  same design are trained on.
- NEU-DET (Northeastern University, China) numbers the pictures of each class, and neighbours often
  are overlapping windows of one strip. Whole blocks of numbers are held out, with a guard of
  unused pictures on both sides.
- Simulated parts use disjoint ranges of seeds.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from . import REPO_ROOT
from .recipes import NEU_CLASSES, SIMULATED_CLASSES

Image = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]

HELD_OUT_STEP = 10  # every tenth pair of a DeepPCB board is held out
# Of these every third one chooses thresholds, the others make the published figures.
VALIDATION_STEP = 3

NEU_BLOCK = 15  # consecutive numbers of a class that stay together
NEU_TEST_BLOCKS = (4, 13)
NEU_VALIDATION_BLOCKS = (9,)
NEU_GUARD = 3  # numbers beside a held-out block that are not used at all

# The simulator's seeds, disjoint by use. The product's demo and tests draw below the first.
TRAINING_SEEDS = 1_000_000
VALIDATION_SEEDS = 2_000_000
TEST_SEEDS = 3_000_000

WINDOW_PX = (140, 320)  # side of a detail inspector's window in the part's pixels

Split = dict[str, list[str]]


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


def deeppcb_split(folder: Path) -> Split:
    """Names of the pairs by use: train, validation, test."""
    names = sorted(path.stem for path in (folder / "deeppcb" / "boxes").glob("*.txt"))
    split: Split = {"train": [], "validation": [], "test": []}
    seen: dict[str, int] = {}
    held_out = 0
    for name in names:
        board = name[:5]
        seen[board] = seen.get(board, 0) + 1
        if seen[board] % HELD_OUT_STEP:
            split["train"].append(name)
            continue
        held_out += 1
        split["test" if held_out % VALIDATION_STEP else "validation"].append(name)
    return split


def load_pair(folder: Path, name: str) -> Sample:
    """One DeepPCB pair. Raises ValueError naming the file for an unreadable image or box line."""
    folder = folder / "deeppcb"
    images = [read_grey(folder / "images" / f"{name}_{kind}.jpg") for kind in ("test", "temp")]
    path = folder / "boxes" / f"{name}.txt"
    rows = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    if any(len(row) != 5 for row in rows):
        raise ValueError(f"{path}: a line is not 'x1 y1 x2 y2 class'")
    boxes = np.array(rows, np.float32).reshape(-1, 5)
    boxes[:, 4] -= 1
    return Sample(name, images[0], boxes, images[1])


def load_pairs(folder: Path, names: Iterable[str]) -> list[Sample]:
    """DeepPCB pairs by name; classes index BOARD_CLASSES."""
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


def neu_split(folder: Path) -> Split:
    """Names of NEU-DET's pictures by use: train, validation, test, guard (not used)."""
    split: Split = {"train": [], "validation": [], "test": [], "guard": []}
    for path in sorted((folder / "neu-det" / "annotations").glob("*.xml")):
        number = int(path.stem.rsplit("_", 1)[1])
        split[_neu_use(number)].append(path.stem)
    if not split["train"]:
        raise FileNotFoundError(f"{folder}: no neu-det/annotations/*.xml here")
    return split


def _neu_use(number: int) -> str:
    def block(of: int) -> int:
        return (of - 1) // NEU_BLOCK

    if block(number) in NEU_TEST_BLOCKS:
        return "test"
    if block(number) in NEU_VALIDATION_BLOCKS:
        return "validation"
    held_out = {*NEU_TEST_BLOCKS, *NEU_VALIDATION_BLOCKS}
    near = {block(number - NEU_GUARD), block(number + NEU_GUARD)}
    return "guard" if near & held_out else "train"


def load_neu(folder: Path, names: Iterable[str]) -> list[Sample]:
    """NEU-DET pictures by name; classes index NEU_CLASSES.

    Raises ValueError naming the file for an unreadable picture, an unknown class or no box.
    """
    samples = []
    for name in names:
        image = read_grey(folder / "neu-det/images" / f"{name}.jpg")
        path = folder / "neu-det/annotations" / f"{name}.xml"
        rows = []
        for item in ElementTree.parse(path).iter("object"):
            label, box = item.findtext("name"), item.find("bndbox")
            if label not in NEU_CLASSES or box is None:
                raise ValueError(f"{path}: class {label!r}, known are {', '.join(NEU_CLASSES)}")
            # Pascal VOC counts pixels from 1 and names the last one inside.
            low = [float(box.findtext(key, "")) - 1 for key in ("xmin", "ymin")]
            high = [float(box.findtext(key, "")) for key in ("xmax", "ymax")]
            rows.append([*low, *high, NEU_CLASSES.index(label)])
        if not rows:
            raise ValueError(f"{path}: no object")
        samples.append(Sample(name, image, np.array(rows, np.float32)))
    return samples


def read_grey(path: Path) -> Image:
    """A grey picture (H, W). Raises ValueError naming the file."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError(f"{path}: not a readable image")
    return np.asarray(image, np.uint8)


def simulated_parts(kind: str, first_seed: int, count: int) -> list[Sample]:
    """Parts `first_seed` onwards of one kind ("board" or "steel") as the line shows them.

    About half of them are good; classes index SIMULATED_CLASSES.
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


def windows(parts: Iterable[Sample], seed: int = 0) -> list[Sample]:
    """Square windows as a detail inspector gets them: one around a defect of each part, somewhere
    on a good part. A box that is less than half inside is not the window's.
    """
    rng = np.random.default_rng(seed)
    found = []
    for part in parts:
        height, width = part.image.shape[:2]
        side = int(rng.integers(*WINDOW_PX))
        x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
        if len(part.boxes):
            x1, y1, x2, y2 = part.boxes[rng.integers(len(part.boxes)), :4]
            # Of a defect larger than the window a part is shown.
            x = np.clip(rng.uniform(*sorted((x2 - side, x1))), 0, width - side)
            y = np.clip(rng.uniform(*sorted((y2 - side, y1))), 0, height - side)
        left, top = int(x), int(y)
        moved = part.boxes - np.array([left, top, left, top, 0], np.float32)
        inside = moved.copy()
        inside[:, :4] = inside[:, :4].clip(0, side)
        areas = [np.prod(b[:, 2:4] - b[:, :2], axis=1) for b in (inside, moved)]
        image = part.image[top : top + side, left : left + side]
        boxes = inside[areas[0] >= 0.5 * areas[1]]
        if len(boxes) or not len(part.boxes):
            found.append(Sample(part.name, np.ascontiguousarray(image), boxes))
    return found


def _rows(boxes: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]) -> Boxes:
    from shopfloor.sim.parts import CLASS_NAMES

    if CLASS_NAMES != SIMULATED_CLASSES:
        raise ValueError(f"the simulator's classes are {CLASS_NAMES}, not {SIMULATED_CLASSES}")
    return np.concatenate([boxes, classes[:, None]], axis=1).astype(np.float32)
