"""Trains a package's network: `python -m models.training.train --help`."""

from __future__ import annotations

import argparse
import json
import math
import time
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from . import REPO_ROOT
from .assign import yolox_loss
from .augment import augment
from .data import data_folder
from .network import decode_boxes, grid
from .recipes import RECIPES, Recipe
from .sources import Source, load_sources
from .start import network_of, start_network

CHECKPOINT = "checkpoint.pt"
EMA_DECAY = 0.998
CALIBRATION_BATCHES = 6
FIXED = ("network", "classes", "sources", "start", "seed", "simulated", "weight_decay")
"""What of a recipe a resumed training must not change; steps and rate it may."""


class Batches:
    """Draws training batches; a batch depends on the recipe's seed and the step alone."""

    def __init__(self, sources: list[Source], recipe: Recipe) -> None:
        self.sources = sources
        self.shares = np.array([source.share for source in sources])
        self.shares /= self.shares.sum()
        self.recipe = recipe

    def draw(self, step: int) -> tuple[Tensor, list[Tensor]]:
        """Images (B, 3, S, S) float32 BGR 0-255, and per image boxes (M, 5)."""
        stage = self.recipe.stage(step)
        rng = np.random.default_rng([self.recipe.seed, step])
        images, targets = [], []
        for index in rng.choice(len(self.sources), stage.batch, p=self.shares):
            source = self.sources[index]
            image, boxes = augment(
                source.parts, source.view, self.recipe.classes, stage.size_px, stage.plain, rng
            )
            images.append(image)
            targets.append(torch.from_numpy(boxes))
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return batch.to(torch.float32, memory_format=torch.channels_last), targets


class Average:
    """Exponential moving average of a network's weights and buffers."""

    def __init__(self, model: nn.Module) -> None:
        self.model = deepcopy(model).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards `model`; fast at first, so that the start does not linger."""
        decay = EMA_DECAY * (1 - math.exp(-(step + 1) / 300))
        current = model.state_dict()
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])


def optimiser_for(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; norms and biases are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a crash leaves the old one."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def train(recipe: Recipe, folder: Path, output: Path, resume: bool, console: Console) -> None:
    """Follow the recipe; leaves checkpoint and log in `output`.

    With `resume` it goes on from the checkpoint there. Raises ValueError where that was made with
    another recipe.
    """
    torch.manual_seed(recipe.seed)
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / CHECKPOINT
    sources = load_sources(folder, recipe)
    for source in sources:
        console.print(f"{source.name}: {len(source.parts)} training pictures or pairs")
    batches = Batches(sources, recipe)
    first = 0
    if resume:
        state = torch.load(checkpoint, weights_only=True)
        changed = [key for key in FIXED if state["recipe"][key] != asdict(recipe)[key]]
        if changed:
            raise ValueError(f"{checkpoint}: was made with another {', '.join(changed)}")
        model = network_of(recipe)
        model.load_state_dict(state["model"])
        first = state["step"]
    else:
        # Batches beyond the last one that is trained on, in number enough for a fit.
        pictures = [batches.draw(recipe.total + i)[0] for i in range(CALIBRATION_BATCHES)]
        model = start_network(recipe, folder, torch.cat(pictures))
    model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for name in recipe.frozen:
        model.get_submodule(name).eval().requires_grad_(False)
    average = Average(model)
    optimiser = optimiser_for(model, recipe)
    if resume:
        average.model.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        console.print(f"resumed at step {first}")
    grids = {stage.size_px: grid(stage.size_px, stage.size_px) for stage in recipe.stages}
    log = (output / "log.jsonl").open("a" if resume else "w", encoding="utf-8")
    recent: list[float] = []
    with log, progress_bar(console) as progress:
        bar = progress.add_task("training", total=recipe.total, completed=first, loss="-")
        for step in range(first, recipe.total):
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(step)
            images, targets = batches.draw(step)
            with torch.autocast("cpu", torch.bfloat16):
                raw = model(images)
            raw = raw.float()
            corners, strides = grids[images.shape[-1]]
            decoded = decode_boxes(raw, corners, strides)
            l1_weight = 1.0 if recipe.stage(step).plain else 0.0
            losses = yolox_loss(raw, decoded, targets, corners, strides, l1_weight)
            optimiser.zero_grad(set_to_none=True)
            losses.total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimiser.step()
            average.update(model, step)
            recent.append(float(losses.total.detach()))
            progress.update(bar, advance=1, loss=f"{np.mean(recent[-50:]):.3f}")
            if (step + 1) % 50 == 0:
                row = {
                    "step": step + 1,
                    "loss": round(float(np.mean(recent[-50:])), 4),
                    "box": round(losses.box, 4),
                    "objectness": round(losses.objectness, 4),
                    "classes": round(losses.classes, 4),
                    "rate": recipe.rate(step),
                    "cpu_s": round(time.process_time(), 1),
                }
                log.write(json.dumps(row) + "\n")
                log.flush()
            if (step + 1) % 50 == 0 or step + 1 == recipe.total:
                save(
                    checkpoint,
                    {
                        "recipe": asdict(recipe),
                        "step": step + 1,
                        "model": model.state_dict(),
                        "average": average.model.state_dict(),
                        "optimiser": optimiser.state_dict(),
                    },
                )


def progress_bar(console: Console) -> Progress:
    """A bar with the loss and the times."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Train a package's network. Interrupted, it goes on with --resume.",
        epilog="example: python -m models.training.train neu_nano --threads 4",
    )
    parser.add_argument("recipe", choices=RECIPES, help="what to train")
    parser.add_argument("--data", type=Path, help="data sets; else SHOPFLOOR_DATA, ../shared/data")
    parser.add_argument("--output", type=Path, help="else build/training/RECIPE")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (1)")
    values = parser.parse_args()
    torch.set_num_threads(values.threads)
    output = values.output or REPO_ROOT / "build/training" / values.recipe
    recipe = RECIPES[values.recipe]
    train(recipe, data_folder(values.data), output, values.resume, Console())


if __name__ == "__main__":
    main()
