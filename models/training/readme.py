"""The model card for readers: README.md of a package, written from its model.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SETS = {
    "validation_deeppcb": "DeepPCB, board {validation_boards}, unseen too; thresholds look at it",
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

- `suspect` {suspect}: the highest score that still catches 99 % of the defective parts.
- `fail` {fail}: for each validation set the score that at most 2 % of its good parts reach; the
  median of these, so that one odd board does not decide for all.
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
- Scores are not on one scale: defects of DeepPCB's binarised boards score high, faint ones of
  simulated boards low. One pair of thresholds serves both badly; on one kind of part set `fail`
  and `suspect` for that kind, from validation parts of your own.
- A good board of a design that the model has not seen can raise false alarms, since it sees one
  picture and no template. Board 50600, dense planes with thin gaps, shows it: ends and junctions of
  gaps look like opens, and most of its good parts score above 0.8.
- Simulated boards, most of all mouse bites, shorts and spurs, are the weak side of this version.
- The test sets were not looked at only once: interim tables of them and pictures of their boards
  were seen during development, negatives were added to the training after that, and the rule for
  the thresholds was changed several times with the tables in view. Take the figures for unseen
  boards as slightly optimistic, and the shares at the thresholds as descriptions, not predictions.

## Data

{data_terms}

## Make it again

    pip install -r models/training/requirements.txt
    python -m models.training.train
    python -m models.training.export
    python -m models.training.evaluate --write

The shipped weights: {steps} steps ({epochs} views of each DeepPCB training pair), seed {seed}.
Start: {start}.
They were not made by one run of this code, and an uninterrupted run of it has not been evaluated.
"""


def readme(card: dict[str, Any]) -> str:
    """README.md of an evaluated package."""
    metrics, training = card["metrics"], card["training"]
    split, speed = training["split"], metrics["speed"]
    boards = ", ".join(split["test_boards"])
    validation = ", ".join(split["validation_boards"])
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
            f"- {key}: {text.format(test_boards=boards, validation_boards=validation)}."
            for key, text in SETS.items()
        ),
        class_head=" | ".join(card["classes"]),
        class_rule="|".join("---" for _ in card["classes"]),
        class_rows="\n".join(class_rows),
        infer_ms=speed["infer_ms_p50"],
        inspect_ms=speed["inspect_ms_p50"],
        engine=speed["engine"],
        validation_boards=validation,
        test_boards=boards,
        data_terms="\n".join(f"- {key}: {text}" for key, text in card["data_terms"].items()),
        steps=training["steps"],
        epochs=training["epochs"],
        seed=training["seed"],
        start=training["start"],
        **{key: card["thresholds"][key] for key in ("fail", "suspect", "nms_iou")},
    )


def write_readme(folder: Path, card: dict[str, Any]) -> None:
    """Write README.md beside model.yaml."""
    (folder / "README.md").write_text(readme(card), encoding="utf-8")
