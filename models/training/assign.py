"""SimOTA label assignment and the YOLOX loss (Ge et al. 2021, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CENTRE_RADIUS = 1.5  # strides around a box's centre in which a cell may take the box
CANDIDATES = 10  # best overlaps summed to decide how many cells one box gets
OUTSIDE_COST = 1e5


@dataclass(frozen=True)
class Losses:
    """One batch's loss terms, each already divided by the number of matched cells."""

    total: Tensor
    box: float
    objectness: float
    classes: float
    matched: int


def corner_boxes(boxes: Tensor) -> Tensor:
    """(..., 4) cx, cy, w, h to x1, y1, x2, y2."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """Overlap of corner boxes that broadcast against each other."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    area = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1)
    return inner / (area - inner + 1e-9)


@torch.no_grad()
def assign(
    boxes: Tensor, logits: Tensor, truth: Tensor, labels: Tensor, centres: Tensor, strides: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Cells matched to true boxes in one image.

    boxes (N, 4) corner px; logits (N, 1 + C); truth (M, 4) corner px; labels (M,); centres (N, 2)
    cell centres in px; strides (N, 1). Returns cell indices (K,), their truth index (K,) and the
    overlap of prediction and truth (K,), the class target's weight.
    """
    middle = (truth[:, :2] + truth[:, 2:]) / 2
    offset = (centres[None] - middle[:, None]).abs().amax(-1)
    near = offset < CENTRE_RADIUS * strides.squeeze(1)[None]
    inside = ((centres[None] > truth[:, None, :2]) & (centres[None] < truth[:, None, 2:])).all(-1)
    cells = (near | inside).any(0).nonzero().squeeze(1)
    if not len(cells):
        empty = cells.new_zeros(0)
        return empty, empty, boxes.new_zeros(0)
    overlap = paired_iou(truth[:, None], boxes[cells][None])
    probability = (logits[cells, 1:].sigmoid() * logits[cells, :1].sigmoid()).sqrt()
    wanted = functional.one_hot(labels, probability.shape[1]).float()
    class_cost = functional.binary_cross_entropy(
        probability[None].expand(len(truth), -1, -1).clamp(1e-6, 1 - 1e-6),
        wanted[:, None].expand(-1, len(cells), -1),
        reduction="none",
    ).sum(-1)
    good = (near & inside)[:, cells]
    cost = class_cost - 3.0 * torch.log(overlap + 1e-8) + OUTSIDE_COST * ~good
    match = torch.zeros_like(cost, dtype=torch.bool)
    best = overlap.topk(min(CANDIDATES, len(cells)), dim=1).values
    counts = best.sum(1).int().clamp(min=1).tolist()
    for row, count in enumerate(counts):
        match[row, cost[row].topk(min(count, len(cells)), largest=False).indices] = True
    # A cell claimed twice keeps its cheapest box.
    twice = match.sum(0) > 1
    if twice.any():
        cheapest = cost[:, twice].argmin(0)
        match[:, twice] = False
        match[cheapest, twice.nonzero().squeeze(1)] = True
    taken = match.any(0)
    owner = match[:, taken].int().argmax(0)
    return cells[taken], owner, overlap[owner, taken.nonzero().squeeze(1)]


def yolox_loss(
    raw: Tensor,
    decoded: Tensor,
    targets: list[Tensor],
    corners: Tensor,
    strides: Tensor,
    l1_weight: float = 0.0,
) -> Losses:
    """Loss of a batch.

    raw (B, N, 5 + C) head values, decoded (B, N, 4) cx, cy, w, h px, targets per image (M, 5)
    x1, y1, x2, y2 px and class; corners and strides from `network.grid`. With `l1_weight` the
    absolute error of the raw box values is added, as upstream does in its last epochs.
    """
    batch, cells, width = raw.shape
    predicted = corner_boxes(decoded)
    centres = (corners + 0.5) * strides
    object_target = raw.new_zeros(batch, cells)
    images, indices, truths, labels, overlaps = [], [], [], [], []
    for i, target in enumerate(targets):
        if not len(target):
            continue
        index, owner, overlap = assign(
            predicted[i], raw[i, :, 4:], target[:, :4], target[:, 4].long(), centres, strides
        )
        object_target[i, index] = 1.0
        images.append(torch.full_like(index, i))
        indices.append(index)
        truths.append(target[owner, :4])
        labels.append(target[owner, 4].long())
        overlaps.append(overlap)
    objectness = functional.binary_cross_entropy_with_logits(
        raw[..., 4], object_target, reduction="sum"
    )
    matched = sum(len(i) for i in indices)
    scale = float(max(matched, 1))
    if not matched:
        return Losses(objectness / scale, 0.0, float(objectness.detach()) / scale, 0.0, 0)
    at = (torch.cat(images), torch.cat(indices))
    truth, label = torch.cat(truths), torch.cat(labels)
    box = (1 - paired_iou(predicted[at], truth) ** 2).sum()
    wanted = functional.one_hot(label, width - 5).float() * torch.cat(overlaps)[:, None]
    classes = functional.binary_cross_entropy_with_logits(raw[at][:, 5:], wanted, reduction="sum")
    total = 5.0 * box + objectness + classes
    if l1_weight:
        stride, corner = strides[at[1]], corners[at[1]]
        middle = (truth[:, :2] + truth[:, 2:]) / 2 / stride - corner
        size = torch.log((truth[:, 2:] - truth[:, :2]) / stride + 1e-8)
        total = total + l1_weight * (raw[at][:, :4] - torch.cat([middle, size], 1)).abs().sum()
    return Losses(
        total / scale,
        5.0 * float(box.detach()) / scale,
        float(objectness.detach()) / scale,
        float(classes.detach()) / scale,
        matched,
    )
