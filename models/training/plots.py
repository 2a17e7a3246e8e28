"""Pictures of a model's figures, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .data import Sample
from .judge import Floats, Inspected, cost_of
from .recipes import Costs

from shopfloor.inspection.metrics import (  # isort: skip
    iou_matrix,
    match_detections,
    precision_recall,
)

INK, GRID = "#222222", "#dddddd"
COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#222255",
    "#cc6644",
)  # fmt: skip
TRUE_BGR, FOUND_BGR = (60, 170, 40), (40, 40, 220)
TILE_PX, COLUMNS, TILES = 320, 4, 12


def save(figure: Figure, path: Path) -> None:
    """Write the figure."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110, facecolor="white")


def precision_recall_curves(result: Inspected, classes: Sequence[str], path: Path) -> None:
    """One curve per class."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.add_subplot(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(color=GRID)
    for label, name in enumerate(classes):
        scores, hits, count = _pooled(result, label)
        if count and len(scores):
            precision, recall, _ = precision_recall(scores, hits, count)
            colour = COLOURS[label % len(COLOURS)]
            axes.plot(recall, precision, color=colour, label=f"{name} ({count})", lw=1.8)
    figure.legend(loc="outside right upper", title="class (defects)", frameon=False)
    save(figure, path)


def _pooled(result: Inspected, label: int) -> tuple[Floats, npt.NDArray[np.bool_], int]:
    scores, hits, count = [], [], 0
    for found, truth in zip(result.detections, result.truths, strict=True):
        d, t = found[found[:, 5] == label], truth[truth[:, 4] == label]
        scores.append(d[:, 4])
        hits.append(match_detections(d[:, :4], d[:, 4], t[:, :4]))
        count += len(t)
    return np.concatenate(scores), np.concatenate(hits), count


def confusion_matrix(result: Inspected, n_classes: int, threshold: float) -> npt.NDArray[np.int64]:
    """Counts (C + 1, C + 1) of truth by detection at `threshold`; last row: nothing was there,
    last column: missed. A defect belongs to the detection that overlaps it most, at least by half.
    """
    counts = np.zeros((n_classes + 1, n_classes + 1), np.int64)
    for found, truth in zip(result.detections, result.truths, strict=True):
        rows = found[found[:, 4] >= threshold]
        overlap = iou_matrix(truth[:, :4], rows[:, :4])
        missed, extra = np.ones(len(truth), bool), np.ones(len(rows), bool)
        while overlap.size and overlap.max() >= 0.5:
            t, d = np.unravel_index(int(overlap.argmax()), overlap.shape)
            counts[int(truth[t, 4]), int(rows[d, 5])] += 1
            overlap[t], overlap[:, d] = 0.0, 0.0
            missed[t] = extra[d] = False
        np.add.at(counts, (truth[missed, 4].astype(int), n_classes), 1)
        np.add.at(counts, (n_classes, rows[extra, 5].astype(int)), 1)
    return counts


def confusion(counts: npt.NDArray[np.int64], classes: Sequence[str], path: Path) -> None:
    """The matrix with its counts; colour by share of the row."""
    names = [*classes, "nothing"]
    figure = Figure(figsize=(1.8 + 0.75 * len(names), 1.4 + 0.6 * len(names)), layout="constrained")
    axes = figure.add_subplot(xlabel="found", ylabel="true")
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(names)), [*classes, "missed"], rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)
    for (row, column), value in np.ndenumerate(counts):
        if value:
            ink = "white" if shares[row, column] > 0.6 else INK
            axes.text(column, row, str(value), ha="center", va="center", color=ink)
    save(figure, path)


def part_scores(result: Inspected, fail: float, suspect: float, path: Path) -> None:
    """Highest score of good and of defective parts, with the thresholds."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="highest score of a part", ylabel="parts")
    edges = np.linspace(0, 1, 41)
    for mask, name, colour in (
        (~result.bad, "good", COLOURS[2]),
        (result.bad, "defective", COLOURS[1]),
    ):
        if mask.any():
            axes.hist(result.top[mask], edges, color=colour, alpha=0.65, label=name)
    for value, name, style in ((suspect, "suspect", ":"), (fail, "fail", "--")):
        axes.axvline(value, color=INK, ls=style, lw=1.2, label=f"{name} {value:.3f}")
    axes.legend(frameon=False)
    save(figure, path)


def cost_curves(sets: Sequence[Inspected], costs: Costs, fail: float, path: Path) -> None:
    """Expected cost of a part over the fail threshold, suspects off, and what it is made of."""
    steps = np.linspace(0.05, 0.99, 95)
    accept = Costs(0.0, costs.false_accept, 0.0, costs.defective)
    reject = Costs(costs.false_reject, 0.0, 0.0, costs.defective)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="threshold", ylabel="expected cost of a part")
    axes.grid(color=GRID)
    for part, name, colour in (
        (costs, "together", INK),
        (accept, "false accepts", COLOURS[1]),
        (reject, "false rejects", COLOURS[0]),
    ):
        values = [cost_of(sets, part, float(t), float(t)) for t in steps]
        axes.plot(steps, values, color=colour, label=name, lw=1.6)
    axes.axvline(fail, color=INK, ls="--", lw=1.2, label=f"fail {fail:.3f}")
    axes.legend(frameon=False)
    save(figure, path)


def worst_parts(
    parts: Sequence[Sample], result: Inspected, classes: Sequence[str], threshold: float, path: Path
) -> int:
    """Contact sheet of the parts with most wrong boxes; returns how many it shows.

    Wrong are defects that nothing at `threshold` finds under their name, and finds that are none.
    Green: truth, red: found.
    """
    errors = [_errors(result, i, threshold) for i in range(len(parts))]
    chosen = sorted(np.flatnonzero(errors), key=lambda i: -errors[i])[:TILES]
    tiles = [_tile(parts[i], result, int(i), classes, threshold) for i in chosen]
    if not tiles:
        return 0
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    cv2.imwrite(str(path), np.vstack(rows))
    return len(chosen)


def _errors(result: Inspected, index: int, threshold: float) -> int:
    found, truth = result.detections[index], result.truths[index]
    found = found[found[:, 4] >= threshold]
    hits = 0
    for label in np.unique(truth[:, 4]):
        d, t = found[found[:, 5] == label], truth[truth[:, 4] == label]
        hits += int(match_detections(d[:, :4], d[:, 4], t[:, :4]).sum())
    return len(found) + len(truth) - 2 * hits


def _tile(
    part: Sample, result: Inspected, index: int, classes: Sequence[str], threshold: float
) -> npt.NDArray[np.uint8]:
    image = part.image if part.image.ndim == 3 else cv2.merge([part.image] * 3)
    scale = (TILE_PX - 4) / max(image.shape[:2])
    size = [round(side * scale) for side in image.shape[1::-1]]
    tile = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    found = result.detections[index]
    # Thin frames, the text of a find under its box and that of the truth above it.
    for box in result.truths[index]:
        _frame(tile, box[:4] * scale, TRUE_BGR, classes[int(box[4])], above=True)
    for row in found[found[:, 4] >= threshold]:
        text = f"{classes[int(row[5])]} {row[4]:.2f}"
        _frame(tile, row[:4] * scale, FOUND_BGR, text, above=False)
    framed = np.full((TILE_PX + 18, TILE_PX, 3), 255, np.uint8)
    framed[18 : 18 + tile.shape[0], 2 : 2 + tile.shape[1]] = tile
    kind = "defective" if len(part.boxes) else "good"
    _write(framed, f"{part.name} ({kind})", (4, 13), (40, 40, 40))
    return framed


def _frame(
    image: npt.NDArray[np.uint8], box: npt.NDArray[np.floating], colour: tuple[int, int, int],
    text: str, above: bool,
) -> None:  # fmt: skip
    x1, y1, x2, y2 = (int(v) for v in box)
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, 1)
    at = (y1 - 3 if y1 > 14 else y1 + 11) if above else (y2 + 11 if y2 < TILE_PX - 16 else y2 - 3)
    _write(image, text, (min(max(x1, 0), TILE_PX - 8 * len(text)), at), colour)


def _write(
    image: npt.NDArray[np.uint8], text: str, at: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    for ink, thickness in (((255, 255, 255), 3), (colour, 1)):
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.38, ink, thickness, cv2.LINE_AA)
