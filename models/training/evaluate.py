"""Figures of a model package, through the product's own inspector and ONNX Runtime.

`python -m models.training.evaluate --help`. Thresholds are chosen on validation parts only; the
test parts are looked at once they stand. Both go into the package's model.yaml and README.md.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from .data import (
    TEST_SEEDS,
    VALIDATION_SEEDS,
    Sample,
    data_folder,
    deeppcb_split,
    load_neu,
    load_pairs,
    neu_split,
    pair_parts,
    simulated_parts,
    windows,
)
from .export import CARD, package_folder, write_card
from .judge import (
    SCORE_FLOOR,
    Inspected,
    figures,
    inspect_parts,
    thresholds_by_boxes,
    thresholds_by_cost,
)
from .readme import write_readme
from .recipes import BOARD_CLASSES, NEU_CLASSES, RECIPES, SIMULATED_CLASSES, Costs, Recipe
from .sources import with_classes

from shopfloor.inspection.engines import EngineOptions, load_engine  # isort: skip
from shopfloor.inspection.model import load_model_package  # isort: skip
from shopfloor.inspection.pipeline import Inspector  # isort: skip
from shopfloor.inspection.verdict import Criteria  # isort: skip

PREFIX = "validation_"
"""Sets of this prefix choose thresholds; the others are published figures."""


@dataclass(frozen=True)
class Evaluation:
    """Parts by set, what the package says about them, and the thresholds chosen."""

    parts: dict[str, list[Sample]]
    results: dict[str, Inspected]
    fail: float
    suspect: float
    engine: str


def evaluation_sets(folder: Path, recipe: Recipe, simulated: int) -> dict[str, list[Sample]]:
    """Held-out parts of the recipe's sources, by set."""
    found: dict[str, list[Sample]] = {}
    for source in recipe.sources:
        if source == "deeppcb":
            split = deeppcb_split(folder)
            sets = [pair_parts(load_pairs(folder, split[use])) for use in ("validation", "test")]
            classes = BOARD_CLASSES
        elif source == "neu":
            split = neu_split(folder)
            sets = [load_neu(folder, split[use]) for use in ("validation", "test")]
            classes = NEU_CLASSES
        else:
            half = max(simulated // 2, 1)
            seeds = ((VALIDATION_SEEDS, half), (TEST_SEEDS, simulated))
            sets = [simulated_parts(source, first, count) for first, count in seeds]
            classes = SIMULATED_CLASSES
        name = {"board": "simulated_board", "steel": "simulated_steel"}.get(source, source)
        for prefix, parts in zip((PREFIX, ""), sets, strict=True):
            renamed = with_classes(parts, classes, recipe.classes)
            if recipe.sees_windows:
                renamed = windows(renamed)
            found[prefix + name] = renamed
    return found


def evaluate(
    recipe: Recipe,
    package_path: Path,
    data: Path,
    simulated: int,
    costs: Costs,
    threads: int,
    console: Console,
) -> Evaluation:
    """Inspect the held-out parts and choose thresholds on the validation sets."""
    package = load_model_package(package_path)
    engine = load_engine("onnxruntime", package, EngineOptions(threads=threads))
    inspector = Inspector(package, engine, Criteria(fail=1.0, suspect=1.0), score_floor=SCORE_FLOOR)
    sets = evaluation_sets(data, recipe, simulated)
    results = {
        name: inspect_parts(inspector, list(track(parts, name, console=console)))
        for name, parts in sets.items()
    }
    name = inspector.describe().name
    engine.close()
    validation = [r for name, r in results.items() if name.startswith(PREFIX)]
    if all((~r.bad).any() for r in validation):
        fail, suspect = thresholds_by_cost(validation, costs)
    else:
        fail, suspect = thresholds_by_boxes(validation[0])
    return Evaluation(sets, results, fail, suspect, name)


def metrics_of(evaluation: Evaluation, classes: tuple[str, ...], threads: int) -> dict[str, Any]:
    """The card's metrics."""
    results = evaluation.results
    found: dict[str, Any] = {"score_floor": SCORE_FLOOR}
    for name, result in results.items():
        found[name] = figures(result, classes, evaluation.fail, evaluation.suspect)
    infer = np.concatenate([r.infer_ms for r in results.values()])
    total = np.concatenate([r.total_ms for r in results.values()])
    found["speed"] = {
        "engine": evaluation.engine,
        "threads": threads,
        "infer_ms_p50": round(float(np.median(infer)), 1),
        "inspect_ms_p50": round(float(np.median(total)), 1),
    }
    return found


def show(card: dict[str, Any], console: Console) -> None:
    """The figures as a table."""
    columns = ("map50", "auroc", "false_rejects_at_99_recall", "good_failed", "good_suspect",
               "bad_failed", "bad_suspect", "bad_passed")  # fmt: skip
    table = Table("set", "parts", *columns)
    for name, row in card["metrics"].items():
        if isinstance(row, dict) and "map50" in row:
            parts = row["parts"]
            cells = [f"{row[c]:.4f}" if c in row else "-" for c in columns]
            table.add_row(name, f"{parts['bad']} bad, {parts['good']} good", *cells)
            console.print(f"{name}: {row['ap50']}")
    console.print(table)
    console.print(card["thresholds"], card["metrics"]["speed"])


def common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of evaluation and report: the recipe, costs in place of its own, what to inspect."""
    parser.add_argument("recipe", choices=RECIPES)
    for name, metavar, text in (
        ("false_reject", "COST", "of a good part that fails"),
        ("false_accept", "COST", "of a defective part that passes"),
        ("review", "COST", "of a suspect part that somebody looks at"),
        ("defective", "SHARE", "of the line's parts, 0-1"),
    ):
        option = f"--{name.replace('_', '-')}"
        text = f"{text}; usually {getattr(Costs, name):g}"
        parser.add_argument(option, type=float, metavar=metavar, help=text)
    parser.add_argument("--data", type=Path, help="data sets; else SHOPFLOOR_DATA, ../shared/data")
    parser.add_argument("--package", type=Path, help="folder, else models/NAME/VERSION")
    parser.add_argument("--simulated", type=int, default=300, help="test parts of each kind (300)")
    parser.add_argument("--threads", type=int, default=1, help="ONNX Runtime threads (1)")


def costs_of(values: argparse.Namespace) -> Costs:
    """The recipe's costs, changed by the options."""
    given = {name: getattr(values, name) for name in asdict(Costs())}
    return replace(
        RECIPES[values.recipe].costs, **{k: v for k, v in given.items() if v is not None}
    )


def run(values: argparse.Namespace, console: Console) -> tuple[Recipe, Path, Evaluation]:
    """What the options ask for: recipe, package folder, evaluation."""
    recipe = RECIPES[values.recipe]
    folder = values.package or package_folder(recipe)
    data, costs = data_folder(values.data), costs_of(values)
    evaluation = evaluate(recipe, folder, data, values.simulated, costs, values.threads, console)
    return recipe, folder, evaluation


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Evaluate a model package on held-out parts; writes its card.",
        epilog="example: python -m models.training.evaluate neu_nano --dry-run",
    )
    common_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="show, but leave the card alone")
    values = parser.parse_args()
    console = Console(width=160)
    recipe, folder, evaluation = run(values, console)
    card = yaml.safe_load((folder / CARD).read_text(encoding="utf-8"))
    card["thresholds"] |= {"fail": evaluation.fail, "suspect": evaluation.suspect}
    card["costs"] = asdict(costs_of(values))
    card["metrics"] = metrics_of(evaluation, recipe.classes, values.threads)
    show(card, console)
    if not values.dry_run:
        write_card(folder, card)
        write_readme(folder, card)


if __name__ == "__main__":
    main()
