"""The model card for readers: README.md of a package, written from its model.yaml."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from textwrap import fill
from typing import Any

from .about import ABOUT

MEANINGS = {
    "deeppcb": "held-out pictures of DeepPCB's boards",
    "neu": "held-out blocks of NEU-DET",
    "simulated_board": "simulated boards, seeds of their own",
    "simulated_steel": "simulated steel, seeds of their own",
}

TEMPLATE = """\
# {name} {version}

{introduction}

## Figures

Exported ONNX file, through the inspector with ONNX Runtime, {threads} thread, detections from a
score of {score_floor} up. In brackets the 95 % interval from drawing the parts anew. AUROC and the
columns after it judge whole parts by their highest score.

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
{engine}, {threads} thread, measured on a shared 2-core x86-64 machine).

## Thresholds

{thresholds}

## Split

{split}

## Intended use and limits

{limits}

## Data

{data_terms}

## Make it again

    pip install -r models/training/requirements.txt
    python -m models.training.train {name}
    python -m models.training.export {name}
    python -m models.training.evaluate {name}
    python -m models.training.report {name}

{steps} steps, seed {seed}, start: {start}.
{made}"""

BY_COST = (
    "the least expected cost of a part, where a false reject costs {false_reject:g}, a false "
    "accept {false_accept:g}, a look at a suspect part {review:g}, and {defective:.0%} of the "
    "parts are defective."
)
BY_BOXES = (
    "`fail` gives the best F1 over boxes, `suspect` still finds 95 % of the boxes that are found "
    "at the score floor; the set has no good parts to weigh false rejects with."
)


INTRODUCTION = (
    "{finds} Classes: {classes}. Input {width} x {height} px. {architecture}. Own training in "
    "`models/training/`; the weights are under {licence}."
)
THRESHOLDS = (
    "`fail` {fail}, `suspect` {suspect}, chosen on the validation sets only: {rule} Non-maximum "
    "suppression within a class at IoU {nms_iou}. Your costs differ: "
    "`python -m models.training.report {name} --help` shows how to choose others."
)
WIDTH = 100


def readme(card: dict[str, Any]) -> str:
    """README.md of an evaluated package."""
    metrics, training, about = card["metrics"], card["training"], ABOUT[card["name"]]
    sets = {name: row for name, row in metrics.items() if isinstance(row, dict) and "map50" in row}
    published = [name for name in sets if name in MEANINGS]
    judges_parts = "auroc" in sets[published[0]]
    class_rows = []
    for name, row in sets.items():
        by_class = [row["ap50"].get(label) for label in card["classes"]]
        texts = ["" if value is None else f"{value:.3f}" for value in by_class]
        class_rows.append(f"| {name} | {' | '.join(texts)} |")
    speed = metrics["speed"]
    return TEMPLATE.format(
        name=card["name"],
        version=card["version"],
        introduction=fill(
            INTRODUCTION.format(
                **card | card["input"] | {"classes": ", ".join(card["classes"])},
                finds=about.finds,
            ),
            WIDTH,
        ),
        thresholds=fill(
            THRESHOLDS.format(
                **card["thresholds"],
                name=card["name"],
                rule=BY_COST.format(**card["costs"]) if judges_parts else BY_BOXES,
            ),
            WIDTH,
        ),
        **{key: speed[key] for key in ("engine", "threads")},
        score_floor=metrics["score_floor"],
        rows="\n".join(f"| `{name}` | {_cells(row)} |" for name, row in sets.items()),
        meanings=_points(
            f"{name}: {MEANINGS[name]}; `validation_{name}`: others of the same kind, for the "
            "thresholds."
            for name in published
        ),
        class_head=" | ".join(card["classes"]),
        class_rule="|".join("---" for _ in card["classes"]),
        class_rows="\n".join(class_rows),
        infer_ms=speed["infer_ms_p50"],
        inspect_ms=speed["inspect_ms_p50"],
        made="\n" + fill(about.made, WIDTH) + "\n" if about.made else "",
        split=_points(about.split),
        limits=_points(about.limits),
        data_terms=_points(f"{key}: {text}" for key, text in card["data_terms"].items()),
        **{key: training[key] for key in ("steps", "seed", "start")},
    )


def _points(texts: Iterable[str]) -> str:
    return "\n".join(
        fill(text, WIDTH, initial_indent="- ", subsequent_indent="  ") for text in texts
    )


def _cells(row: dict[str, Any]) -> str:
    def share(key: str) -> str:
        return f"{row[key]:.1%}" if key in row else "-"

    low, high = row["map50_95_percent"]
    parts = row["parts"]
    cells = [
        f"{row['map50']:.3f} ({low:.2f}-{high:.2f})",
        f"{row['auroc']:.4f}" if "auroc" in row else "-",
        share("false_rejects_at_99_recall"),
        share("good_failed"),
        share("good_suspect"),
        share("bad_failed"),
        share("bad_passed"),
        f"{parts['bad']} defective, {parts['good']} good, {parts['defects']} defects",
    ]
    return " | ".join(cells)


def write_readme(folder: Path, card: dict[str, Any]) -> None:
    """Write README.md beside model.yaml."""
    (folder / "README.md").write_text(readme(card), encoding="utf-8")
