"""The shipped model packages: complete, unchanged, and what their cards say."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

MODELS = Path(__file__).resolve().parents[2] / "models"
PACKAGES = sorted(path.parent for path in MODELS.glob("*/*/model.yaml"))
# What a package may not fall below, by set: mAP50, and AUROC where the set has good parts.
FLOORS: dict[str, dict[str, tuple[float, ...]]] = {
    "surface_nano/1": {
        "deeppcb": (0.87, 0.99),
        "deeppcb_same_board": (0.93, 0.995),
        "simulated_board": (0.76, 0.98),
        "simulated_steel": (0.91, 0.985),
    },
    "deeppcb_nano/2": {"deeppcb": (0.95, 0.995)},
    "neu_server/1": {"neu": (0.76,)},
    "neu_nano/1": {"neu": (0.70,)},
    "surface_server/1": {
        "deeppcb": (0.90, 0.97),
        "simulated_board": (0.70, 0.90),
        "simulated_steel": (0.88, 0.97),
    },
}
LARGEST_BYTES = 20 * 1024 * 1024
BOX_AND_OBJECTNESS = 5


def name_of(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


@pytest.fixture(scope="module", params=PACKAGES, ids=name_of)
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def card(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    return values


@pytest.fixture(scope="module")
def session(folder: Path) -> Any:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(
        (folder / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
    )


def test_model_is_the_one_the_card_describes(folder: Path, card: dict[str, Any]) -> None:
    content = (folder / "model.onnx").read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    assert (card["name"], str(card["version"])) == (folder.parent.name, folder.name)
    assert len(content) <= LARGEST_BYTES


def test_card_has_every_key_with_sound_values(card: dict[str, Any]) -> None:
    for key in ("licence", "architecture", "training", "metrics", "data_terms"):
        assert card[key], key
    assert len(set(card["classes"])) == len(card["classes"])
    assert (card["layout"], card["decoded"]) == ("yolox", True)
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
    assert output.shape == [1, cells, BOX_AND_OBJECTNESS + len(card["classes"])]


@pytest.mark.parametrize("fill", [0.0, 114.0, 255.0])
def test_output_is_decoded_and_finite_on_an_empty_picture(
    card: dict[str, Any], session: Any, fill: float
) -> None:
    size = card["input"]["width"]
    (output,) = session.run(None, {"images": np.full((1, 3, size, size), fill, np.float32)})
    boxes, scores = output[0, :, :4], output[0, :, 4:]
    assert np.isfinite(output).all()
    assert scores.min() >= 0.0 and scores.max() <= 1.0
    assert (boxes[:, 2:] > 0).all()
    # Pixels, not cells: centres spread over the whole input.
    assert boxes[:, :2].max() > 0.85 * size and boxes[:, :2].min() < 0.15 * size


def test_centres_lie_near_their_cells(card: dict[str, Any], session: Any) -> None:
    size = card["input"]["width"]
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, size, size)).astype(np.float32)
    (output,) = session.run(None, {"images": image})
    ys, xs = np.mgrid[: size // 8, : size // 8]
    cells = np.stack([xs.ravel(), ys.ravel()], axis=1) * 8 + 4
    distance = np.abs(output[0, : len(cells), :2] - cells)
    assert np.median(distance) < 16


def test_published_figures_do_not_fall_behind(folder: Path, card: dict[str, Any]) -> None:
    for name, floors in FLOORS[name_of(folder)].items():
        figures = card["metrics"][name]
        assert figures["map50"] >= floors[0], name
        assert figures["parts"]["bad"] >= 50, name
        if len(floors) > 1:
            assert figures["auroc"] >= floors[1], name
            assert figures["parts"]["good"] >= 50, name


def test_thresholds_come_from_other_parts_than_the_figures(
    folder: Path, card: dict[str, Any]
) -> None:
    assert any(name.startswith("validation_") for name in card["metrics"])
    assert not any(name.startswith("validation_") for name in FLOORS[name_of(folder)])


def test_readme_tells_the_figures_of_the_card(folder: Path, card: dict[str, Any]) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.+)\|$", text, re.MULTILINE))
    for name, figures in card["metrics"].items():
        # Version 1's page leaves two of the validation sets out.
        if not isinstance(figures, dict) or "map50" not in figures or name not in rows:
            continue
        assert f" {figures['map50']:.3f}" in rows[name], name
        if "auroc" in figures:
            assert f"{figures['auroc']:.4f}" in rows[name], name
    assert set(FLOORS[name_of(folder)]) <= set(rows)
