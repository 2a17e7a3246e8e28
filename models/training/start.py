"""Where a training starts: an exported nano, its classes carried over by name."""

from __future__ import annotations

from pathlib import Path

import yaml
from torch import Tensor

from . import REPO_ROOT
from .grow import grow
from .network import Yolox, load_fused_onnx
from .recipes import NANO, Recipe

COCO_WEIGHTS = Path("weights") / "yolox_nano_coco_416.onnx"


def start_network(recipe: Recipe, folder: Path, calibration: Tensor) -> Yolox:
    """The recipe's network with its start weights; one that is no nano is grown from the nano.

    folder: data sets, where the COCO weights lie; calibration: (B, 3, H, W) training pictures to
    take statistics from. Raises FileNotFoundError naming the file that is missing.
    """
    nano = Yolox(len(recipe.classes), NANO.width, NANO.depth, NANO.depthwise)
    load_fused_onnx(nano, *start_weights(recipe, folder), calibration)
    return nano if recipe.network == NANO else grow(nano, network_of(recipe))


def network_of(recipe: Recipe) -> Yolox:
    """The recipe's network as initialised."""
    size = recipe.network
    return Yolox(len(recipe.classes), size.width, size.depth, size.depthwise)


def start_weights(recipe: Recipe, folder: Path) -> tuple[Path, list[int | None]]:
    """The ONNX file to start from, and for each class its row there, None without one."""
    rows: list[int | None] = [None] * len(recipe.classes)
    if recipe.start == "coco":
        path = folder / COCO_WEIGHTS
    else:
        package = REPO_ROOT / "models" / recipe.start
        path = package / "model.onnx"
        if path.is_file():
            known = yaml.safe_load((package / "model.yaml").read_text(encoding="utf-8"))["classes"]
            rows = [known.index(name) if name in known else None for name in recipe.classes]
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: the start weights of {recipe.package} are not here; a package of an earlier "
            "version lies in the history of this repository"
        )
    return path, rows
