"""Trains the surface detector: `python -m models.training.train --help`."""

from __future__ import annotations

import argparse
import json
import math
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
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
from .data import (
    CLASSES,
    TRAINING_SEEDS,
    Sample,
    data_folder,
    deeppcb_split,
    load_pairs,
    simulated_pairs,
)
from .network import Yolox, decode_boxes, grid, load_fused_onnx

CHECKPOINT = "checkpoint.pt"
EMA_DECAY = 0.998
WARM_UP_STEPS = 100


@dataclass(frozen=True)
class Plan:
    """What is trained. Steps on crops come first, then `fine_steps` on whole parts.

    A batch is drawn from DeepPCB, simulated boards and simulated steel in the given shares.
    """

    steps: int = 1900
    fine_steps: int = 150
    crop_px: int = 352
    full_px: int = 640
    batch: int = 16
    fine_batch: int = 8
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    seed: int = 7
    simulated: int = 400
    deeppcb_share: float = 0.55
    board_share: float = 0.27
    steel_share: float = 0.18

    @property
    def total(self) -> int:
        """Steps of both stages."""
        return self.steps + self.fine_steps

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then half a cosine down to a hundredth."""
        warm = min(1.0, (step + 1) / WARM_UP_STEPS)
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.total))
        return self.learning_rate * warm * (0.01 + 0.99 * cosine)


class Batches:
    """Draws training batches; a batch depends on the plan's seed and the step alone."""

    def __init__(self, sources: list[list[Sample]], shares: list[float], plan: Plan) -> None:
        self.sources = sources
        self.shares = np.array(shares) / sum(shares)
        self.plan = plan

    def draw(self, step: int) -> tuple[Tensor, list[Tensor]]:
        """Images (B, 3, S, S) float32 BGR 0-255, and per image boxes (M, 5)."""
        plan = self.plan
        fine = step >= plan.steps
        size, count = (plan.full_px, plan.fine_batch) if fine else (plan.crop_px, plan.batch)
        rng = np.random.default_rng([plan.seed, step])
        images, targets = [], []
        for source in rng.choice(len(self.sources), count, p=self.shares):
            parts = self.sources[source]
            image, boxes = augment(parts[rng.integers(len(parts))], size, rng)
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


def optimiser_for(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """AdamW; norms and biases are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": plan.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate)


def load_sources(
    folder: Path, plan: Plan, console: Console
) -> tuple[list[list[Sample]], list[float]]:
    """Training parts and their shares of a batch."""
    names = deeppcb_split(folder)["train"]
    sources = [load_pairs(folder, names)]
    shares = [plan.deeppcb_share]
    console.print(f"DeepPCB: {len(names)} training pairs")
    if plan.simulated:
        for kind, share in (("board", plan.board_share), ("steel", plan.steel_share)):
            started = time.monotonic()
            sources.append(simulated_pairs(kind, TRAINING_SEEDS, plan.simulated))
            shares.append(share)
            took_s = time.monotonic() - started
            console.print(f"simulated {kind}: {plan.simulated} pairs in {took_s:.0f} s")
    return sources, shares


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a crash leaves the old one."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def train(
    plan: Plan, folder: Path, weights: Path, output: Path, resume: bool, console: Console
) -> None:
    """Run the plan; leaves checkpoint and log in `output`.

    With `resume` it goes on from the checkpoint there; only the number of steps may have changed.
    """
    torch.manual_seed(plan.seed)
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / CHECKPOINT
    sources, shares = load_sources(folder, plan, console)
    batches = Batches(sources, shares, plan)
    model = Yolox(len(CLASSES))
    first = 0
    if resume:
        state = torch.load(checkpoint, weights_only=True)
        made_with = Plan(**state["plan"])
        if replace(made_with, steps=plan.steps, fine_steps=plan.fine_steps) != plan:
            raise ValueError(f"{checkpoint}: was made with another plan: {made_with}")
        model.load_state_dict(state["model"])
        first = state["step"]
    else:
        load_fused_onnx(model, weights, batches.draw(0)[0])
    model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = Average(model)
    optimiser = optimiser_for(model, plan)
    if resume:
        average.model.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        console.print(f"resumed at step {first}")
    grids = {size: grid(size, size) for size in (plan.crop_px, plan.full_px)}
    log = (output / "log.jsonl").open("a" if resume else "w", encoding="utf-8")
    recent: list[float] = []
    with log, progress_bar(console) as progress:
        bar = progress.add_task("training", total=plan.total, completed=first, loss="")
        for step in range(first, plan.total):
            for group in optimiser.param_groups:
                group["lr"] = plan.rate(step)
            images, targets = batches.draw(step)
            with torch.autocast("cpu", torch.bfloat16):
                raw = model(images)
            raw = raw.float()
            corners, strides = grids[images.shape[-1]]
            decoded = decode_boxes(raw, corners, strides)
            fine = step >= plan.steps
            losses = yolox_loss(raw, decoded, targets, corners, strides, 1.0 if fine else 0.0)
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
                    "rate": plan.rate(step),
                    "elapsed_s": round(time.process_time(), 1),
                }
                log.write(json.dumps(row) + "\n")
                log.flush()
            if (step + 1) % 100 == 0 or step + 1 == plan.total:
                save(
                    checkpoint,
                    {
                        "plan": asdict(plan),
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


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for every field of the plan."""
    for name, value in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)


def plan_from(values: argparse.Namespace) -> Plan:
    """The plan that the options ask for."""
    return Plan(**{name: getattr(values, name) for name in asdict(Plan())})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Train the surface detector on DeepPCB and on simulated parts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="data sets; else SHOPFLOOR_DATA, ../shared/data")
    parser.add_argument("--weights", type=Path, help="ONNX to start from; else in the data sets")
    parser.add_argument(
        "--output", type=Path, default=REPO_ROOT / "build/training/surface_nano", help="checkpoint"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    plan_arguments(parser)
    values = parser.parse_args()
    torch.set_num_threads(values.threads)
    folder = data_folder(values.data)
    weights = values.weights or folder / "weights" / "yolox_nano_coco_416.onnx"
    train(plan_from(values), folder, weights, values.output, values.resume, Console())


if __name__ == "__main__":
    main()
