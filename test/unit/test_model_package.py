"""The shipped model package: complete, unchanged, and what its card says."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "models" / "surface_nano" / "1"
CLASSES = [
    "open", "short", "mousebite", "spur", "copper", "pinhole", "scratch", "inclusion", "patch",
]  # fmt: skip
# Set, mAP50 and AUROC that this version may not fall below. The set `deeppcb` holds boards that no
# training image came from, `deeppcb_same_board` kept-out images of the other boards.
FLOORS = [
    ("deeppcb", 0.87, 0.99),
    ("deeppcb_same_board", 0.93, 0.995),
    ("simulated_board", 0.76, 0.98),
    ("simulated_steel", 0.91, 0.985),
]
SETS = tuple(name for name, _, _ in FLOORS)
BOX_AND_OBJECTNESS = 5


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((FOLDER / "model.yaml").read_text(encoding="utf-8"))
    return values


@pytest.fixture(scope="module")
def session() -> Any:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(
        (FOLDER / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
    )


def names(file: str) -> list[str]:
    return (FOLDER / file).read_text(encoding="ascii").split()


def test_model_is_the_one_the_card_describes(card: dict[str, Any]) -> None:
    digest = hashlib.sha256((FOLDER / "model.onnx").read_bytes()).hexdigest()
    assert card["sha256"] == digest
    assert (card["name"], str(card["version"])) == (FOLDER.parent.name, FOLDER.name)


def test_card_has_every_key_with_sound_values(card: dict[str, Any]) -> None:
    for key in ("licence", "architecture", "training", "metrics", "data_terms"):
        assert card[key], key
    assert card["classes"] == CLASSES
    assert (card["layout"], card["decoded"]) == ("yolox", True)
    assert card["input"] == {
        "name": "images", "width": 640, "height": 640, "channels": "bgr", "scale": 1.0,
        "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "pad": 114,
    }  # fmt: skip
    thresholds = card["thresholds"]
    assert 0.05 <= thresholds["suspect"] <= thresholds["fail"] < 1.0
    assert 0.0 < thresholds["nms_iou"] < 1.0


def test_onnx_shapes_are_static_and_fit_the_card(card: dict[str, Any], session: Any) -> None:
    (tensor,), (output,) = session.get_inputs(), session.get_outputs()
    size = card["input"]
    assert tensor.name == size["name"]
    assert tensor.type == output.type == "tensor(float)"
    assert tensor.shape == [1, 3, size["height"], size["width"]]
    cells = sum((size["width"] // s) * (size["height"] // s) for s in (8, 16, 32))
    assert output.shape == [1, cells, BOX_AND_OBJECTNESS + len(CLASSES)]


@pytest.mark.parametrize("fill", [0.0, 114.0, 255.0])
def test_output_is_decoded_and_finite_on_an_empty_picture(session: Any, fill: float) -> None:
    (output,) = session.run(None, {"images": np.full((1, 3, 640, 640), fill, np.float32)})
    boxes, scores = output[0, :, :4], output[0, :, 4:]
    assert np.isfinite(output).all()
    assert scores.min() >= 0.0 and scores.max() <= 1.0
    assert (boxes[:, 2:] > 0).all()
    # Pixels, not cells: centres spread over the whole input.
    assert boxes[:, :2].max() > 560 and boxes[:, :2].min() < 80


def test_centres_lie_near_their_cells(session: Any) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, 640, 640)).astype(np.float32)
    (output,) = session.run(None, {"images": image})
    ys, xs = np.mgrid[:80, :80]
    cells = np.stack([xs.ravel(), ys.ravel()], axis=1) * 8 + 4
    distance = np.abs(output[0, : len(cells), :2] - cells)
    assert np.median(distance) < 16


def test_held_out_images_are_whole_boards_and_listed_once(card: dict[str, Any]) -> None:
    held_out, same_board = names("holdout.txt"), names("holdout_same_board.txt")
    split = card["training"]["split"]
    assert {name[:5] for name in held_out} == set(split["test_boards"])
    assert not {name[:5] for name in same_board} & {
        *split["test_boards"], *split["validation_boards"],
    }  # fmt: skip
    assert Counter(held_out + same_board).most_common(1)[0][1] == 1
    assert len(held_out) == split["pairs"]["test"]
    assert len(same_board) == split["pairs"]["same_board"]


@pytest.mark.parametrize(("name", "map50", "auroc"), FLOORS)
def test_published_figures_do_not_fall_behind(
    card: dict[str, Any], name: str, map50: float, auroc: float
) -> None:
    figures = card["metrics"][name]
    assert figures["map50"] >= map50
    assert figures["auroc"] >= auroc
    assert figures["parts"]["bad"] >= 50 and figures["parts"]["good"] >= 50


def test_thresholds_come_from_other_parts_than_the_figures(card: dict[str, Any]) -> None:
    assert {"validation_deeppcb", "validation_board", "validation_steel"} <= card["metrics"].keys()
    split = card["training"]["split"]
    assert not set(split["validation_boards"]) & set(split["test_boards"])


def test_readme_tells_the_figures_of_the_card(card: dict[str, Any]) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.+)\|$", text, re.MULTILINE))
    for name in SETS:
        figures = card["metrics"][name]
        cells = [cell.strip() for cell in rows[name].split("|")]
        assert f"{figures['map50']:.3f}" in cells, name
        assert f"{figures['auroc']:.4f}" in cells, name
