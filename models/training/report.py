"""What a package's figures look like: `python -m models.training.report --help`.

Writes build/reports/NAME/: index.html with precision-recall curves, AP per class, confusion matrix,
scores of good and defective parts, costs over the threshold, and a sheet of the worst parts.
"""

from __future__ import annotations

import argparse
from html import escape
from pathlib import Path

from rich.console import Console

from . import REPO_ROOT
from .evaluate import PREFIX, Evaluation, common_arguments, costs_of, run
from .judge import cost_of, figures, thresholds_by_boxes
from .plots import (
    confusion,
    confusion_matrix,
    cost_curves,
    part_scores,
    precision_recall_curves,
    worst_parts,
)
from .recipes import Costs, Recipe

STYLE = """
body { font: 15px/1.5 sans-serif; color: #222; max-width: 1320px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 }
td, th { border-bottom: 1px solid #ddd; padding: .25em .8em; text-align: right }
td:first-child, th:first-child { text-align: left }
img { max-width: 100%; vertical-align: top }
.row { display: flex; flex-wrap: wrap; gap: 1em } .row > * { flex: 1 1 460px }
"""


def write_report(
    recipe: Recipe, evaluation: Evaluation, costs: Costs, folder: Path
) -> dict[str, float]:
    """Write the pages; returns the mAP50 by set."""
    folder.mkdir(parents=True, exist_ok=True)
    fail, suspect = evaluation.fail, evaluation.suspect
    results = evaluation.results
    validation = [r for name, r in results.items() if name.startswith(PREFIX)]
    scored = all((~r.bad).any() for r in validation)
    body = [f"<h1>{recipe.name} {recipe.version}</h1>", _table(recipe, evaluation)]
    body.append(f"<h2>Thresholds</h2><p>fail {fail:.3f}, suspect {suspect:.3f}, chosen on the ")
    if scored:
        cost_curves(validation, costs, fail, folder / "costs.png")
        cost = cost_of(validation, costs, fail, suspect)
        body.append(
            f"validation sets: a false reject costs {costs.false_reject:g}, a false accept "
            f"{costs.false_accept:g}, a review {costs.review:g}, {costs.defective:.1%} of the "
            f"parts are defective. Expected cost of a part: {cost:.4f}.</p>"
            '<img src="costs.png" alt="costs">'
        )
    else:
        body.append("boxes of the validation set: it has no good parts.</p>")
    for name, result in results.items():
        if name.startswith(PREFIX):
            continue
        precision_recall_curves(result, recipe.classes, folder / f"{name}_pr.png")
        box_score, _ = thresholds_by_boxes(result)
        counts = confusion_matrix(result, len(recipe.classes), box_score)
        confusion(counts, recipe.classes, folder / f"{name}_confusion.png")
        part_scores(result, fail, suspect, folder / f"{name}_scores.png")
        shown = worst_parts(
            evaluation.parts[name], result, recipe.classes, box_score, folder / f"{name}_worst.png"
        )
        body.append(
            f"<h2>{escape(name)}</h2><p>Boxes in the confusion matrix and below: from a score of "
            f'{box_score:.2f} up, where F1 is best.</p><div class="row">'
            f'<img src="{name}_pr.png" alt="precision and recall">'
            f'<img src="{name}_confusion.png" alt="confusion">'
            f'<img src="{name}_scores.png" alt="scores of parts"></div>'
            f"<h3>The {shown} worst parts</h3>"
            "<p>Most wrong boxes first. Green: true, red: found.</p>"
            + (f'<img src="{name}_worst.png" alt="worst parts">' if shown else "")
        )
    page = f"<!doctype html><meta charset=utf-8><title>{recipe.name}</title><style>{STYLE}</style>"
    (folder / "index.html").write_text(page + "\n".join(body) + "\n", encoding="utf-8")
    rows = {name: figures(r, recipe.classes, fail, suspect) for name, r in results.items()}
    return {name: row["map50"] for name, row in rows.items()}


def _table(recipe: Recipe, evaluation: Evaluation) -> str:
    head = ["set", "parts", "defects", "mAP50", "95 %", "AUROC", "false rejects at 99 % recall"]
    lines = [*head, *recipe.classes]
    rows = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in lines) + "</tr>"]
    for name, result in evaluation.results.items():
        row = figures(result, recipe.classes, evaluation.fail, evaluation.suspect)
        parts, (low, high) = row["parts"], row["map50_95_percent"]
        cells = [
            name,
            f"{parts['bad']} + {parts['good']}",
            str(parts["defects"]),
            f"{row['map50']:.3f}",
            f"{low:.2f}-{high:.2f}",
            f"{row['auroc']:.4f}" if "auroc" in row else "-",
            f"{row['false_rejects_at_99_recall']:.1%}" if "auroc" in row else "-",
            *(f"{row['ap50'][c]:.3f}" if c in row["ap50"] else "-" for c in recipe.classes),
        ]
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table>{''.join(rows)}</table><p>Parts: defective + good. Per class: AP50.</p>"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Show how good a package is on held-out parts, and where it fails.",
        epilog="example: python -m models.training.report deeppcb_nano --false-accept 100",
    )
    common_arguments(parser)
    parser.add_argument("--output", type=Path, help="folder, else build/reports/NAME")
    values = parser.parse_args()
    console = Console()
    recipe, _, evaluation = run(values, console)
    folder = values.output or REPO_ROOT / "build/reports" / recipe.name
    scores = write_report(recipe, evaluation, costs_of(values), folder)
    for name, score in scores.items():
        console.print(f"{name}: mAP50 {score:.3f}")
    console.print(f"thresholds: fail {evaluation.fail:.3f}, suspect {evaluation.suspect:.3f}")
    console.print(f"[bold]{folder / 'index.html'}")


if __name__ == "__main__":
    main()
