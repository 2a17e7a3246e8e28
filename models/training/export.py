"""Checkpoint to model package: `python -m models.training.export --help`.

Writes model.onnx (batch norms folded, boxes decoded in the graph) and model.yaml. Thresholds and
figures come from `models.training.evaluate`.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from . import REPO_ROOT
from .network import STRIDES, Yolox, decode, fuse, grid
from .recipes import RECIPES, Recipe
from .start import network_of
from .train import CHECKPOINT

OPSET = 17
MIRROR_AXES = ((), (1,), (0,), (0, 1))
"""Axes of a picture, 0 rows and 1 columns, that are turned round for each of its views."""
CARD = "model.yaml"
MODEL = "model.onnx"

DATA_TERMS = {
    "deeppcb": "DeepPCB, Tang et al. 2019, MIT; no image is part of this package",
    "neu": "NEU-DET, Northeastern University (China), published for research, without a licence "
    "file: clear the terms before commercial use; no image is part of this package",
    "board": "simulated boards of this repository, Apache-2.0",
    "steel": "simulated steel of this repository, Apache-2.0",
    "start": "YOLOX-nano COCO weights, Megvii, Apache-2.0",
}


class Deployed(nn.Module):
    """The detector with its decoding: (1, 3, S, S) BGR 0-255 to (1, cells, 5 + classes)."""

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


class Mirrored(nn.Module):
    """The mean of what a detector finds in a picture and in its three mirror images.

    Same input and output as `Deployed`. A cell's values are averaged with those of the cells that
    see the same place in the mirror images; boxes after they are mirrored back.
    """

    partners: Tensor
    signs: Tensor
    offsets: Tensor

    def __init__(self, deployed: Deployed, size_px: int) -> None:
        super().__init__()
        self.deployed = deployed
        cells, first = [], 0
        for stride in STRIDES:
            side = size_px // stride
            indices = torch.arange(first, first + side * side).reshape(side, side)
            cells.append([indices.flip(axes).flatten() for axes in MIRROR_AXES])
            first += side * side
        levels = zip(*cells, strict=True)
        self.register_buffer("partners", torch.stack([torch.cat(level) for level in levels]))
        mirrored = torch.tensor([[float(1 in axes), float(0 in axes)] for axes in MIRROR_AXES])
        self.register_buffer("signs", 1.0 - 2.0 * mirrored[:, None, :])
        self.register_buffer("offsets", size_px * mirrored[:, None, :])

    def forward(self, images: Tensor) -> Tensor:
        turned = [images.flip([axis + 2 for axis in axes]) for axes in MIRROR_AXES[1:]]
        views = torch.cat([images, *turned])
        pairs = zip(self.deployed(views), self.partners, strict=True)
        found = torch.stack([view[partners] for view, partners in pairs])
        centres = found[..., :2] * self.signs + self.offsets
        return torch.cat([centres, found[..., 2:]], -1).mean(0, keepdim=True)


def package_folder(recipe: Recipe) -> Path:
    """models/NAME/VERSION."""
    return REPO_ROOT / "models" / recipe.package


def checkpoint_of(recipe: Recipe) -> Path:
    """Where the recipe's training leaves its checkpoint."""
    return REPO_ROOT / "build" / "training" / recipe.name / CHECKPOINT


def load_average(checkpoint: Path, recipe: Recipe) -> tuple[Yolox, int]:
    """The averaged network of a checkpoint, and the steps done."""
    state = torch.load(checkpoint, weights_only=True)
    model = network_of(recipe)
    model.load_state_dict(state["average"])
    return model.eval(), state["step"]


def write_onnx(model: Yolox, path: Path, size_px: int = 640, mirrored: bool = False) -> str:
    """Export with a static shape; returns the file's sha256."""
    deployed: nn.Module = Deployed(fuse(model), size_px)
    deployed = (Mirrored(deployed, size_px) if mirrored else deployed).eval()
    # The tracing exporter writes the same bytes for the same weights; its successor does not yet.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            deployed,
            (torch.zeros(1, 3, size_px, size_px),),
            str(path),
            input_names=["images"],
            output_names=["output"],
            opset_version=OPSET,
            dynamo=False,
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card(recipe: Recipe, sha256: str, steps: int) -> dict[str, Any]:
    """model.yaml's content. Thresholds stand at their widest until they are chosen."""
    size = recipe.network
    kind = "depthwise" if size.depthwise else "full convolutions"
    return {
        "name": recipe.name,
        "version": recipe.version,
        "sha256": sha256,
        "licence": "Apache-2.0",
        "architecture": f"{size.name} ({kind}, width {size.width}, depth {size.depth}), "
        "decoded in the graph" + ", the mean over four mirror images" * recipe.mirrored,
        "layout": "yolox",
        "decoded": True,
        "input": {
            "name": "images",
            "width": recipe.input_px,
            "height": recipe.input_px,
            "channels": "bgr",
            "scale": 1.0,
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "pad": 114,
        },
        "classes": list(recipe.classes),
        "thresholds": {"fail": 0.5, "suspect": 0.05, "nms_iou": 0.5},
        "training": {
            "sources": dict(recipe.sources),
            "start": recipe.start,
            "steps": steps,
            "stages": [asdict(stage) for stage in recipe.stages],
            "learning_rate": recipe.learning_rate,
            "seed": recipe.seed,
        },
        "metrics": {},
        "data_terms": {key: DATA_TERMS[key] for key in (*recipe.sources, "start")},
    }


def write_package(recipe: Recipe, checkpoint: Path, folder: Path) -> str:
    """Export `checkpoint` into the package `folder`; returns the sha256 of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    model, steps = load_average(checkpoint, recipe)
    sha256 = write_onnx(model, folder / MODEL, recipe.input_px, recipe.mirrored)
    write_card(folder, card(recipe, sha256, steps))
    return sha256


def write_card(folder: Path, values: dict[str, Any]) -> None:
    """Write model.yaml in the order of `values`."""
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    (folder / CARD).write_text(text, encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Export a checkpoint's averaged weights as a model package.",
        epilog="example: python -m models.training.export neu_nano",
    )
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--checkpoint", type=Path, help="else build/training/RECIPE/checkpoint.pt")
    parser.add_argument("--package", type=Path, help="folder to write, else models/NAME/VERSION")
    values = parser.parse_args()
    recipe = RECIPES[values.recipe]
    folder = values.package or package_folder(recipe)
    sha256 = write_package(recipe, values.checkpoint or checkpoint_of(recipe), folder)
    print(f"{folder}: sha256 {sha256}")


if __name__ == "__main__":
    main()
