"""Random crops, mosaics, flips, turns and light for training images."""

from __future__ import annotations

import cv2
import numpy as np

from .data import Boxes, Image, Sample
from .sources import View

PAD = 114  # the grey that the product's letterbox pads with
MIN_VISIBLE = 0.4  # share of a box that must be left in a crop for the box to be learned
MOSAIC_SCALES = (0.5, 1.0)  # zoom of a picture that is a quarter of a mosaic

# What a defect becomes when copper and gap swap places: a cut in a trace is a bridge over a gap.
NEGATIVE_NAMES = (("open", "short"), ("mousebite", "spur"), ("copper", "pinhole"))


def blend_pair(sample: Sample, rng: np.random.Generator) -> tuple[Image, Boxes]:
    """A defective image as it is, its template, or the template with some of the defects.

    The pairs are aligned, so a defect's box copied into the template makes a new part with fewer
    defects, and leaves good copper where the model last saw a defect.
    """
    if sample.template is None or not len(sample.boxes):
        return sample.image, sample.boxes
    draw = rng.random()
    if draw < 0.5:
        return sample.image, sample.boxes
    if draw < 0.65:
        return sample.template, sample.boxes[:0]
    image = sample.template.copy()
    kept = sample.boxes[rng.random(len(sample.boxes)) < 0.5]
    for x1, y1, x2, y2 in kept[:, :4].astype(int):
        area = np.s_[max(y1 - 3, 0) : y2 + 3, max(x1 - 3, 0) : x2 + 3]
        image[area] = sample.image[area]
    # Another defect that reaches into a copied box would be there without a label.
    for other in sample.boxes:
        if any(np.array_equal(other, row) for row in kept):
            continue
        for box in kept:
            if (np.minimum(other[2:4], box[2:4] + 3) > np.maximum(other[:2], box[:2] - 3)).all():
                return sample.image, sample.boxes
    return image, kept


def negative(image: Image, boxes: Boxes, classes: tuple[str, ...]) -> tuple[Image, Boxes]:
    """A binarised board with copper and gap swapped, and its defects renamed to match.

    Boards differ most in how much of them is copper: half of them seen as negatives, the model
    meets dense planes with thin gaps although few training boards have them.
    """
    names = np.arange(len(classes), dtype=np.float32)
    for first, second in NEGATIVE_NAMES:
        i, j = classes.index(first), classes.index(second)
        names[i], names[j] = j, i
    swapped = boxes.copy()
    swapped[:, 4] = names[boxes[:, 4].astype(int)]
    return np.asarray(255 - image, np.uint8), swapped


def crop(
    image: Image,
    boxes: Boxes,
    size_px: int,
    rng: np.random.Generator,
    scales: tuple[float, float] = (1.0, 1.0),
    aimed: float = 0.0,
) -> tuple[Image, Boxes]:
    """A square crop of random scale and place, `size_px` wide after resizing, padded outside.

    `aimed` is the chance that it is laid over a defect.
    """
    height, width = image.shape[:2]
    scale = float(np.exp(rng.uniform(*np.log(scales))))
    # A view of the whole part may be shifted off its edge a little, a smaller one stays inside.
    slack_x, slack_y = width * scale - size_px, height * scale - size_px
    edge = 0.1 * size_px
    low_x, high_x = min(slack_x, 0.0) - edge * (slack_x < 0), max(slack_x, 0.0)
    low_y, high_y = min(slack_y, 0.0) - edge * (slack_y < 0), max(slack_y, 0.0)
    if len(boxes) and rng.random() < aimed:
        x1, y1, x2, y2 = (boxes[rng.integers(len(boxes)), :4] * scale).tolist()
        low_x, high_x = _narrow(low_x, high_x, x2 - size_px, x1)
        low_y, high_y = _narrow(low_y, high_y, y2 - size_px, y1)
    left, top = rng.uniform(low_x, high_x), rng.uniform(low_y, high_y)
    if scale == 1.0 and slack_x == 0 and slack_y == 0:
        return image, boxes
    matrix = np.array([[scale, 0, -left], [0, scale, -top]], np.float64)
    out = cv2.warpAffine(
        image,
        matrix,
        (size_px, size_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PAD, PAD, PAD),
    )
    moved = boxes.copy()
    moved[:, [0, 2]] = moved[:, [0, 2]] * scale - left
    moved[:, [1, 3]] = moved[:, [1, 3]] * scale - top
    full = np.prod(moved[:, 2:4] - moved[:, :2], axis=1)
    moved[:, :4] = moved[:, :4].clip(0, size_px)
    visible = np.prod(moved[:, 2:4] - moved[:, :2], axis=1)
    return np.asarray(out, np.uint8), moved[visible >= MIN_VISIBLE * full]


def mosaic(
    samples: list[Sample], size_px: int, scale: float, rng: np.random.Generator
) -> tuple[Image, Boxes]:
    """Four grey pictures side by side around a random point (Bochkovskiy et al. 2020)."""
    canvas = np.full((size_px, size_px), PAD, np.uint8)
    x, y = (int(v) for v in rng.uniform(0.3 * size_px, 0.7 * size_px, 2))
    areas = ((0, 0, x, y), (x, 0, size_px, y), (0, y, x, size_px), (x, y, size_px, size_px))
    low, high = (scale * s for s in MOSAIC_SCALES)
    found = []
    for sample, (x1, y1, x2, y2) in zip(samples, areas, strict=True):
        side = max(x2 - x1, y2 - y1)
        tile, boxes = crop(sample.image, sample.boxes, side, rng, (low, high), 0.7)
        canvas[y1:y2, x1:x2] = tile[: y2 - y1, : x2 - x1]
        full = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)
        inside = boxes + np.array([x1, y1, x1, y1, 0], np.float32)
        inside[:, [0, 2]] = inside[:, [0, 2]].clip(x1, x2)
        inside[:, [1, 3]] = inside[:, [1, 3]].clip(y1, y2)
        visible = np.prod(inside[:, 2:4] - inside[:, :2], axis=1)
        found.append(inside[visible >= MIN_VISIBLE * full])
    return canvas, np.concatenate(found)


def _narrow(low: float, high: float, least: float, most: float) -> tuple[float, float]:
    """The part of low..high that lies in least..most, or low..high where none does."""
    inner = max(low, least), min(high, most)
    return inner if inner[0] <= inner[1] else (low, high)


def turn(
    image: Image, boxes: Boxes, rng: np.random.Generator, transposed: bool = True
) -> tuple[Image, Boxes]:
    """One of the flips of a square image, also turned by 90 degrees where `transposed`."""
    size = image.shape[0]
    boxes = boxes.copy()
    if rng.random() < 0.5:
        image = image[:, ::-1]
        boxes[:, [0, 2]] = size - boxes[:, [2, 0]]
    if rng.random() < 0.5:
        image = image[::-1]
        boxes[:, [1, 3]] = size - boxes[:, [3, 1]]
    if transposed and rng.random() < 0.5:
        image = image.swapaxes(0, 1)
        boxes = boxes[:, [1, 0, 3, 2, 4]]
    return image, boxes


def relight(image: Image, rng: np.random.Generator) -> Image:
    """Brightness, contrast, blur and noise; a grey image sometimes between two colours."""
    if image.ndim == 2:
        if rng.random() < 0.15:
            dark, bright = rng.uniform(0, 90, 3), rng.uniform(150, 255, 3)
            steps = np.linspace(0.0, 1.0, 256)[:, None]
            table = (dark + (bright - dark) * steps).astype(np.uint8)
            image = np.asarray(cv2.LUT(cv2.merge([image] * 3), table[None]), np.uint8)
        else:
            image = np.asarray(cv2.merge([image] * 3), np.uint8)
    if rng.random() < 0.5:
        gain, offset = rng.uniform(0.75, 1.25), rng.uniform(-25, 25)
        levels = (np.arange(256, dtype=np.float32) - 128) * gain + 128 + offset
        image = np.asarray(cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)), np.uint8)
    if rng.random() < 0.15:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2)), np.uint8)
    if rng.random() < 0.15:
        noise = rng.normal(0.0, rng.uniform(2, 8), image.shape[:2]).astype(np.float32)
        image = np.clip(image + noise[:, :, None], 0, 255).astype(np.uint8)
    return image


def augment(
    parts: list[Sample],
    view: View,
    classes: tuple[str, ...],
    size_px: int,
    plain: bool,
    rng: np.random.Generator,
) -> tuple[Image, Boxes]:
    """A training view of one of the parts: (size_px, size_px, 3) BGR and its boxes (M, 5).

    `plain` leaves out mosaics.
    """
    sample = parts[rng.integers(len(parts))]
    scale = view.span * size_px / max(sample.image.shape[:2]) if view.span else 1.0
    if not plain and rng.random() < view.mosaic:
        others = [parts[i] for i in rng.integers(len(parts), size=3)]
        image, boxes = mosaic([sample, *others], size_px, scale, rng)
    else:
        image, boxes = blend_pair(sample, rng)
        if view.negatives and rng.random() < 0.5:
            image, boxes = negative(image, boxes, classes)
        # The plain view stays the most common one: it is what the camera delivers.
        low, high = view.scales if rng.random() < 0.6 else (1.0, 1.0)
        image, boxes = crop(image, boxes, size_px, rng, (low * scale, high * scale), view.aimed)
    image, boxes = turn(image, boxes, rng, view.transposed)
    return np.ascontiguousarray(relight(image, rng)), boxes
