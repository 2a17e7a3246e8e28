"""The model card for readers: README.md of a package, written from its model.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SETS = {
    "deeppcb": "DeepPCB, boards {test_boards}: no image of them was trained on",
    "deeppcb_same_board": "DeepPCB, held-out images of boards that were trained on",
    "simulated_board": "simulated boards, seeds of their own",
    "simulated_steel": "simulated steel, seeds of their own",
}

TEMPLATE = """\
# {name} {version}

Finds surface defects on printed circuit boards ({board_classes}) and on steel strip
({steel_classes}) in 640 x 640 pictures. {architecture}. Own training in
`models/training/`; the weights are under {licence}.

## Figures

Exported ONNX file, through the inspector with ONNX Runtime, {threads} thread, detections from a
score of {score_floor} up. AUROC and the columns after it judge whole parts by their highest score.

| set | mAP50 | AUROC | false rejects at 99 % recall | good parts failed | good parts suspect | \
defective parts failed | defective parts passed | parts |
|---|---|---|---|---|---|---|---|---|
{rows}

{meanings}

AP50 by class:

| set | {class_head} |
|---|{class_rule}|
{class_rows}

Inference takes {infer_ms} ms and the whole inspection of one picture {inspect_ms} ms (median,
{engine}, measured on a shared 2-core x86-64 machine).

## Thresholds

Chosen on validation parts only (board {validation_boards} and simulated parts of other seeds).

- `fail` {fail}: the middle of the cheapest range when a missed defective part costs ten rejected
  good ones.
- `suspect` {suspect}: the lowest score that at most 2 % of the good parts reach, never below the
  score floor and never above `fail`.
- Non-maximum suppression within a class at IoU {nms_iou}.

## Split

DeepPCB's names begin with the board design. Boards {test_boards} are the test set (`holdout.txt`)
and board {validation_boards} the validation set: the figures are for boards that the model has
never seen. Every tenth pair of the other boards is held out too (`holdout_same_board.txt`) and
says what to expect on a known board, as DeepPCB's own random split by image does. Templates of
held-out pairs are the good parts. Simulated parts use disjoint ranges of seeds.

## Intended use and limits

- A first inspector for the demo and for tests, and a start for training on a plant's own parts.
  Not a safety function, and not fit for another product or camera without its own evaluation.
- DeepPCB's pictures are binarised line scans at about 48 px per mm; a defect is 20 to 120 px.
  Smaller ones, other magnifications and raw camera pictures of boards were not tested.
- Steel was trained and tested on simulated parts only: the figures say nothing about real strip.
- A part that is good by its template but differs from every board seen can raise a false alarm: the
  model sees one picture and no template.

## Data

{data_terms}

## Make it again

    pip install -r models/training/requirements.txt
    python -m models.training.train
    python -m models.training.export
    python -m models.training.evaluate --write

{steps} steps ({epochs} views of each DeepPCB training pair), seed {seed}.
"""


def readme(card: dict[str, Any]) -> str:
    """README.md of an evaluated package."""
    metrics, training = card["metrics"], card["training"]
    split, speed = training["split"], metrics["speed"]
    boards = ", ".join(split["test_boards"])
    rows, class_rows = [], []
    for name in SETS:
        row = metrics[name]
        parts = row["parts"]
        cells = [
            f"{row['map50']:.3f}",
            f"{row['auroc']:.4f}",
            f"{row['false_rejects_at_99_recall']:.1%}",
            f"{row['good_failed']:.1%}",
            f"{row['good_suspect']:.1%}",
            f"{row['bad_failed']:.1%}",
            f"{row['bad_passed']:.1%}",
            f"{parts['bad']} defective, {parts['good']} good, {parts['defects']} defects",
        ]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
        by_class = [row["ap50"].get(label) for label in card["classes"]]
        texts = ["" if value is None else f"{value:.3f}" for value in by_class]
        class_rows.append(f"| {name} | {' | '.join(texts)} |")
    return TEMPLATE.format(
        name=card["name"],
        version=card["version"],
        architecture=card["architecture"],
        licence=card["licence"],
        board_classes=", ".join(card["classes"][:6]),
        steel_classes=", ".join(card["classes"][6:]),
        threads=speed["threads"],
        score_floor=metrics["score_floor"],
        rows="\n".join(rows),
        meanings="\n".join(
            f"- {key}: {text.format(test_boards=boards)}." for key, text in SETS.items()
        ),
        class_head=" | ".join(card["classes"]),
        class_rule="|".join("---" for _ in card["classes"]),
        class_rows="\n".join(class_rows),
        infer_ms=speed["infer_ms_p50"],
        inspect_ms=speed["inspect_ms_p50"],
        engine=speed["engine"],
        validation_boards=", ".join(split["validation_boards"]),
        test_boards=boards,
        data_terms="\n".join(f"- {key}: {text}" for key, text in card["data_terms"].items()),
        steps=training["steps"],
        epochs=training["epochs"],
        seed=training["seed"],
        **{key: card["thresholds"][key] for key in ("fail", "suspect", "nms_iou")},
    )


def write_readme(folder: Path, card: dict[str, Any]) -> None:
    """Write README.md beside model.yaml."""
    (folder / "README.md").write_text(readme(card), encoding="utf-8")
