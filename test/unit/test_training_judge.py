"""Thresholds by cost, figures and the confusion matrix of a model's evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from training.judge import (
    Inspected,
    cost_of,
    figures,
    interval_of_map50,
    thresholds_by_boxes,
    thresholds_by_cost,
)
from training.recipes import RECIPES, Costs, Recipe

NONE = np.zeros((0, 5), np.float32)
BOX = [10.0, 10.0, 50.0, 50.0]
ELSEWHERE = [200.0, 200.0, 240.0, 240.0]


def inspected(bad: list[float], good: list[float]) -> Inspected:
    """Parts with one detection each of the given scores; a score of 0 is no detection."""
    detections = [
        np.array([[*BOX, score, 0.0]] if score else np.zeros((0, 6))) for score in (*bad, *good)
    ]
    truths = [np.array([[*BOX, 0.0]], np.float32)] * len(bad) + [NONE] * len(good)
    return Inspected(detections, truths, np.zeros(0), np.zeros(0))


def test_thresholds_lie_in_the_middle_of_a_clear_gap() -> None:
    fail, suspect = thresholds_by_cost([inspected([0.8, 0.9], [0.2, 0.1])], Costs())
    assert 0.45 <= fail <= 0.55
    assert 0.3 <= suspect <= fail


def test_dearer_false_accepts_let_more_parts_be_looked_at() -> None:
    rng = np.random.default_rng(3)
    mixed = inspected(list(rng.beta(5, 3, 200)), list(rng.beta(3, 5, 200)))
    suspects = [
        thresholds_by_cost([mixed], Costs(false_accept=cost))[1] for cost in (2.0, 30.0, 500.0)
    ]
    assert suspects == sorted(suspects, reverse=True) and suspects[0] > suspects[-1]
    fails = [thresholds_by_cost([mixed], Costs(false_reject=c))[0] for c in (0.2, 1.0, 20.0)]
    assert fails == sorted(fails) and fails[0] < fails[-1]


def test_no_other_thresholds_cost_less_than_those_chosen() -> None:
    rng = np.random.default_rng(4)
    mixed, costs = inspected(list(rng.random(80) ** 0.5), list(rng.random(80) ** 2)), Costs()
    fail, suspect = thresholds_by_cost([mixed], costs)
    least = cost_of([mixed], costs, fail, suspect)
    for other_fail in np.arange(0.05, 0.99, 0.05):
        for other in np.arange(0.05, other_fail + 0.01, 0.05):
            assert least <= cost_of([mixed], costs, round(other_fail, 3), round(other, 3)) + 1e-9


def test_sets_weigh_alike_whatever_their_size() -> None:
    small, large = inspected([0.9], [0.1]), inspected([0.5] * 90, [0.4] * 90)
    together = cost_of([small, large], Costs(), 0.45, 0.45)
    mean = (cost_of([small], Costs(), 0.45, 0.45) + cost_of([large], Costs(), 0.45, 0.45)) / 2
    assert together == pytest.approx(mean)


def test_without_good_parts_thresholds_come_from_boxes() -> None:
    result = inspected([0.9, 0.8, 0.7, 0.3], [])
    fail, suspect = thresholds_by_boxes(result)
    assert suspect <= fail <= 0.3
    rows = figures(result, ("open",), fail, suspect)
    assert rows["bad_failed"] == 1.0
    assert "auroc" not in rows and "good_failed" not in rows


def test_figures_count_every_part_once() -> None:
    rows = figures(inspected([0.9, 0.5, 0.1], [0.7, 0.4, 0.0]), ("open",), 0.6, 0.3)
    assert rows["parts"] == {"bad": 3, "good": 3, "defects": 3}
    assert rows["bad_failed"] + rows["bad_suspect"] + rows["bad_passed"] == pytest.approx(
        1, abs=1e-3
    )
    assert (rows["good_failed"], rows["good_suspect"]) == (0.3333, 0.3333)


def test_interval_holds_the_figure_and_is_a_point_for_a_perfect_model() -> None:
    assert interval_of_map50(inspected([0.9] * 20, [0.0] * 5)) == (1.0, 1.0)
    mixed = inspected([0.9] * 10 + [0.0] * 10, [0.95] * 5)
    low, high = interval_of_map50(mixed)
    assert low < figures(mixed, ("open",), 0.5, 0.5)["map50"] < high


def test_every_defect_is_in_the_confusion_matrix_once() -> None:
    pytest.importorskip("matplotlib")
    from training.plots import confusion_matrix

    found = np.array(
        [[*BOX, 0.9, 1.0], [*BOX, 0.8, 0.0], [*ELSEWHERE, 0.7, 1.0], [*ELSEWHERE, 0.1, 0.0]]
    )
    truth = np.array([[*BOX, 0.0], [400, 400, 440, 440, 1.0]], np.float32)
    counts = confusion_matrix(Inspected([found], [truth], np.zeros(0), np.zeros(0)), 2, 0.5)
    assert counts[:2].sum() == len(truth)
    assert counts[1, 2] == 1  # missed
    assert counts[2].tolist() == [1, 1, 0] or counts[2].tolist() == [0, 2, 0]
    assert counts.sum() == len(truth) + 2


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_a_recipe_goes_through_its_stages_and_lets_the_rate_fall(recipe: Recipe) -> None:
    stages = [recipe.stage(step) for step in range(recipe.total)]
    assert [stages.count(stage) for stage in recipe.stages] == [s.steps for s in recipe.stages]
    assert stages[-1].plain
    assert recipe.rate(0) < recipe.learning_rate / 50
    assert recipe.rate(recipe.total - 1) < recipe.learning_rate / 20
    assert all(stage.size_px % 32 == 0 for stage in recipe.stages)
    assert recipe.input_px % 32 == 0
