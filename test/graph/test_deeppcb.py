"""Real boards through the graph: the figures computed from the messages are the offline figures.

The pictures are DeepPCB's, kept out of training: of boards that the model knows from other
pictures, and of boards that it has never seen. Every third pair of them, as it takes a while; all
with SHOPFLOOR_TEST_ALL=1.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Graph

from shopfloor.inspection.model import load_model_package
from shopfloor.inspection.offline import (
    Figures,
    evaluate,
    figures,
    labelled_images,
    load_inspector,
    read_truth,
)
from shopfloor.ros.paths import data_folder, model_folder

MODEL = "surface_nano/1"
RATE_HZ = 10.0
EVERY = 1 if os.environ.get("SHOPFLOOR_TEST_ALL") else 3


def boards(holdout: str, tmp_path: Path) -> tuple[Path, Path]:
    """Held-out pictures, defective and good, and the folder of their true boxes."""
    data = data_folder() / "deeppcb"
    if not data.is_dir():
        pytest.skip(f"DeepPCB is not in {data}; set SHOPFLOOR_DATA")
    pictures, truth = tmp_path / "pictures", tmp_path / "truth"
    pictures.mkdir()
    truth.mkdir()
    for name in (model_folder(MODEL) / holdout).read_text("utf-8").split()[::EVERY]:
        for kind in ("test", "temp"):
            (pictures / f"{name}_{kind}.jpg").symlink_to(data / "images" / f"{name}_{kind}.jpg")
        (truth / f"{name}_test.txt").symlink_to(data / "boxes" / f"{name}.txt")
    return pictures, truth


def from_messages(results: dict[str, Any], truth: Path, classes: tuple[str, ...]) -> Figures:
    """The figures of the graph: nothing but what the messages say."""
    found, truths = [], []
    for part_id, message in sorted(results.items()):
        found.append(
            np.array(
                [
                    (d.x_px, d.y_px, d.x_px + d.width_px, d.y_px + d.height_px, d.score, d.class_id)
                    for d in message.detections
                ]
            ).reshape(-1, 6)
        )
        boxes = truth / f"{part_id}.txt"
        truths.append(read_truth(boxes, 1) if boxes.exists() else np.empty((0, 5)))
    return figures(found, truths, classes)


@pytest.mark.timeout(360)
@pytest.mark.parametrize(
    ("holdout", "map50", "auroc"),
    [("holdout_same_board.txt", 0.90, 0.99), ("holdout.txt", 0.85, 0.985)],
    ids=["known boards", "unseen boards"],
)
def test_figures_from_messages_equal_the_offline_ones(
    graph: Graph, tmp_path: Path, holdout: str, map50: float, auroc: float
) -> None:
    pictures, truth = boards(holdout, tmp_path)
    names = {path.stem for path in pictures.iterdir()}
    results: dict[str, Any] = {}
    messages = graph.collect("inspection_result")
    graph.start("inspector:inspector", parameters={"model": MODEL})
    graph.start(
        "camera:camera",
        parameters={"source": "folder", "address": str(pictures), "rate_hz": RATE_HZ, "loop": True},
    )

    def all_seen() -> bool:
        while messages:
            message = messages.pop()
            # The second time around a part is called NAME#2.
            results.setdefault(message.part_id.partition("#")[0], message)
        return names <= results.keys()

    # The folder is shown again until each picture was inspected: a busy machine may skip some.
    graph.until(all_seen, "a result of each picture", timeout_s=240.0)
    # A frame whose FrameInfo was sent before this process was discovered has no name.
    results.pop("", None)
    assert set(results) == names
    package = load_model_package(model_folder(MODEL))
    live = from_messages(results, truth, package.classes)
    offline = evaluate(load_inspector(MODEL), labelled_images(pictures, truth, 1)).figures
    print(f"graph: {live}\noffline: {offline}")
    assert (live.good, live.bad) == (offline.good, offline.bad) == (len(names) // 2,) * 2
    assert live.map50 == pytest.approx(offline.map50, abs=0.002)
    assert live.auroc == pytest.approx(offline.auroc, abs=0.002)
    assert live.map50 >= map50
    assert live.auroc >= auroc
