"""Checkpoint to model package: `python -m models.training.export --help`.

Writes model.onnx (batch norms folded, boxes decoded in the graph), model.yaml and the list of the
images kept out of training. Thresholds and figures come from `models.training.evaluate`.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from . import REPO_ROOT
from .data import (
    CLASSES,
    TEST_BOARDS,
    TRAINING_SEEDS,
    VALIDATION_BOARDS,
    data_folder,
    deeppcb_split,
)
from .network import Yolox, decode, fuse, grid
from .train import CHECKPOINT

INPUT_PX = 640
OPSET = 17
CARD = "model.yaml"
START = "the YOLOX-nano COCO weights, batch norms re-created from data"
MODEL = "model.onnx"
PACKAGE = REPO_ROOT / "models" / "surface_nano" / "1"


class Deployed(nn.Module):
    """The detector with its decoding: (1, 3, 640, 640) BGR 0-255 to (1, 8400, 5 + classes)."""

    corners: Tensor
    strides: Tensor

    def __init__(self, model: Yolox, size_px: int) -> None:
        super().__init__()
        self.model = model
        corners, strides = grid(size_px, size_px)
        self.register_buffer("corners", corners)
        self.register_buffer("strides", strides)

    def forward(self, images: Tensor) -> Tensor:
        return decode(self.model(images), self.corners, self.strides)


def load_average(checkpoint: Path) -> tuple[Yolox, dict[str, Any], int]:
    """The averaged network of a checkpoint, its plan, and the steps done."""
    state = torch.load(checkpoint, weights_only=True)
    model = Yolox(len(CLASSES))
    model.load_state_dict(state["average"])
    return model.eval(), state["plan"], state["step"]


def write_onnx(model: Yolox, path: Path) -> str:
    """Export with a static shape; returns the file's sha256."""
    deployed = Deployed(fuse(model), INPUT_PX).eval()
    # The tracing exporter writes the same bytes for the same weights; its successor does not yet.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            deployed,
            (torch.zeros(1, 3, INPUT_PX, INPUT_PX),),
            str(path),
            input_names=["images"],
            output_names=["output"],
            opset_version=OPSET,
            dynamo=False,
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card(
    sha256: str, plan: dict[str, Any], steps: int, split: dict[str, list[str]], start: str
) -> dict[str, Any]:
    """model.yaml's content. Thresholds stand at their widest until they are chosen."""
    counts = {use: len(names) for use, names in split.items()}
    return {
        "name": "surface_nano",
        "version": "1",
        "sha256": sha256,
        "licence": "Apache-2.0",
        "architecture": "YOLOX-nano (depthwise, width 0.25, depth 0.33), decoded in the graph",
        "layout": "yolox",
        "decoded": True,
        "input": {
            "name": "images",
            "width": INPUT_PX,
            "height": INPUT_PX,
            "channels": "bgr",
            "scale": 1.0,
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "pad": 114,
        },
        "classes": list(CLASSES),
        "thresholds": {"fail": 0.5, "suspect": 0.05, "nms_iou": 0.5},
        "training": {
            "data": [
                f"DeepPCB, {counts['train']} pairs of boards other than the held-out ones",
                f"simulator, {plan['simulated']} boards and {plan['simulated']} steel parts "
                f"with their good twins, seeds from {TRAINING_SEEDS}",
            ],
            "start": start,
            "split": {
                "rule": "by board; a tenth of the training boards' images is held out too",
                "validation_boards": list(VALIDATION_BOARDS),
                "test_boards": list(TEST_BOARDS),
                "pairs": counts,
            },
            "steps": steps,
            "epochs": round(_views(plan, steps) * plan["deeppcb_share"] / counts["train"], 1),
            "epochs_are": "crops or parts drawn from DeepPCB per training pair",
            "seed": plan["seed"],
            "plan": plan,
        },
        "metrics": {},
        "data_terms": {
            "deeppcb": "MIT, Tang et al. 2019; no image is part of this package",
            "simulator": "this repository's own procedural parts, Apache-2.0",
            "start_weights": "Apache-2.0, Megvii YOLOX",
        },
    }


def _views(plan: dict[str, Any], steps: int) -> int:
    fine = max(steps - plan["steps"], 0)
    return int((steps - fine) * plan["batch"] + fine * plan["fine_batch"])


def write_package(checkpoint: Path, folder: Path, data: Path, start: str) -> str:
    """Export `checkpoint` into the package `folder`; returns the sha256 of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    model, plan, steps = load_average(checkpoint)
    split = deeppcb_split(data)
    sha256 = write_onnx(model, folder / MODEL)
    write_card(folder, card(sha256, plan, steps, split, start))
    for use, name in (("test", "holdout.txt"), ("same_board", "holdout_same_board.txt")):
        (folder / name).write_text("\n".join(split[use]) + "\n", encoding="ascii")
    return sha256


def write_card(folder: Path, values: dict[str, Any]) -> None:
    """Write model.yaml in the order of `values`."""
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    (folder / CARD).write_text(text, encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Export a checkpoint's averaged weights as a model package.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    default = REPO_ROOT / "build/training/surface_nano"
    parser.add_argument("--checkpoint", type=Path, default=default / CHECKPOINT)
    parser.add_argument("--package", type=Path, default=PACKAGE, help="folder to write")
    parser.add_argument(
        "--start", default=START, help="what the training started from, for the card"
    )
    parser.add_argument("--data", type=Path, help="data sets; else SHOPFLOOR_DATA, ../shared/data")
    values = parser.parse_args()
    sha256 = write_package(
        values.checkpoint, values.package, data_folder(values.data), values.start
    )
    print(f"{values.package}: sha256 {sha256}")


if __name__ == "__main__":
    main()
