"""YOLOX in plain torch (Ge et al. 2021, arXiv:2107.08430, Apache-2.0 architecture).

CSPDarknet with depthwise (nano) or full 3x3 convolutions, path aggregation over strides 8, 16 and
32, and a decoupled anchor-free head.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)


class ConvBlock(nn.Module):
    """Convolution, batch norm, SiLU. `fuse` folds the norm into the convolution."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            c_in, c_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False
        )
        self.norm: nn.Module = nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out

    def fuse(self) -> None:
        """Fold the norm's running statistics into the convolution; inference only afterwards."""
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2d):
            return
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = self.conv.weight.detach() * scale.detach()[:, None, None, None]
        bias = (norm.bias - norm.running_mean * scale).detach()
        self.conv.weight = nn.Parameter(weight)
        self.conv.bias = nn.Parameter(bias)
        self.norm = nn.Identity()


def mixing(c_in: int, c_out: int, stride: int, depthwise: bool) -> nn.Sequential:
    """A 3x3 convolution, of each channel alone where `depthwise`, and a pointwise one."""
    groups = c_in if depthwise else 1
    return nn.Sequential(ConvBlock(c_in, c_in, 3, stride, groups), ConvBlock(c_in, c_out, 1))


class Bottleneck(nn.Module):
    """Pointwise then 3x3, with a shortcut where `shortcut` is set."""

    def __init__(self, channels: int, shortcut: bool, depthwise: bool) -> None:
        super().__init__()
        self.reduce = ConvBlock(channels, channels, 1)
        self.mix = mixing(channels, channels, 1, depthwise)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(self.reduce(x))
        return y + x if self.shortcut else y


class CspLayer(nn.Module):
    """Cross-stage partial layer: half of the channels pass the bottlenecks, half go around."""

    def __init__(
        self, c_in: int, c_out: int, repeats: int, shortcut: bool, depthwise: bool
    ) -> None:
        super().__init__()
        hidden = c_out // 2
        self.main = ConvBlock(c_in, hidden, 1)
        self.side = ConvBlock(c_in, hidden, 1)
        self.blocks = nn.Sequential(
            *(Bottleneck(hidden, shortcut, depthwise) for _ in range(repeats))
        )
        self.merge = ConvBlock(2 * hidden, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        main, side = self.main(x), self.side(x)
        out: Tensor = self.merge(torch.cat([self.blocks(main), side], 1))
        return out


class Focus(nn.Module):
    """Space to depth by two, then a convolution."""

    def __init__(self, c_out: int) -> None:
        super().__init__()
        self.conv = ConvBlock(12, c_out, 3)

    def forward(self, x: Tensor) -> Tensor:
        # Order of the four phases as upstream, so that its weights fit.
        parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        out: Tensor = self.conv(torch.cat(parts, 1))
        return out


class PyramidPooling(nn.Module):
    """Max pooling at three sizes over a reduced map, joined (SPP)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvBlock(channels, channels // 2, 1)
        self.pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (5, 9, 13))
        self.merge = ConvBlock(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        out: Tensor = self.merge(torch.cat([x, *(pool(x) for pool in self.pools)], 1))
        return out


class HeadLevel(nn.Module):
    """Decoupled head of one stride: class scores on one branch, box and objectness on the other."""

    def __init__(self, c_in: int, hidden: int, n_classes: int, depthwise: bool) -> None:
        super().__init__()
        self.stem = ConvBlock(c_in, hidden, 1)
        self.class_branch = nn.Sequential(*(mixing(hidden, hidden, 1, depthwise) for _ in range(2)))
        self.class_out = nn.Conv2d(hidden, n_classes, 1)
        self.box_branch = nn.Sequential(*(mixing(hidden, hidden, 1, depthwise) for _ in range(2)))
        self.box_out = nn.Conv2d(hidden, 4, 1)
        self.object_out = nn.Conv2d(hidden, 1, 1)
        prior = -math.log((1 - 0.01) / 0.01)
        nn.init.constant_(self.class_out.bias, prior)  # type: ignore[arg-type]
        nn.init.constant_(self.object_out.bias, prior)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        classes = self.class_out(self.class_branch(x))
        box = self.box_branch(x)
        return torch.cat([self.box_out(box), self.object_out(box), classes], 1)


class Yolox(nn.Module):
    """The detector.

    `forward` takes (B, 3, H, W) float BGR 0-255 with H and W multiples of 32 and returns raw
    values (B, N, 5 + classes): box offsets in strides, log sizes, objectness and class logits.
    `decode` turns them into pixels and probabilities.
    """

    def __init__(
        self, n_classes: int, width: float = 0.25, depth: float = 0.33, depthwise: bool = True
    ) -> None:
        super().__init__()
        c = [int(64 * width * 2**i) for i in range(5)]
        n = max(round(3 * depth), 1)

        def csp(c_in: int, c_out: int, repeats: int, shortcut: bool = False) -> CspLayer:
            return CspLayer(c_in, c_out, repeats, shortcut, depthwise)

        def halve(c_in: int, c_out: int) -> nn.Module:
            return mixing(c_in, c_out, 2, depthwise)

        self.n_classes = n_classes
        self.stem = Focus(c[0])
        self.dark2 = nn.Sequential(halve(c[0], c[1]), csp(c[1], c[1], n, True))
        self.dark3 = nn.Sequential(halve(c[1], c[2]), csp(c[2], c[2], 3 * n, True))
        self.dark4 = nn.Sequential(halve(c[2], c[3]), csp(c[3], c[3], 3 * n, True))
        self.dark5 = nn.Sequential(halve(c[3], c[4]), PyramidPooling(c[4]), csp(c[4], c[4], n))
        self.lateral5 = ConvBlock(c[4], c[3], 1)
        self.top_down4 = csp(2 * c[3], c[3], n)
        self.lateral4 = ConvBlock(c[3], c[2], 1)
        self.top_down3 = csp(2 * c[2], c[2], n)
        self.down3 = halve(c[2], c[2])
        self.bottom_up4 = csp(2 * c[2], c[3], n)
        self.down4 = halve(c[3], c[3])
        self.bottom_up5 = csp(2 * c[3], c[4], n)
        self.heads = nn.ModuleList(HeadLevel(ch, c[2], n_classes, depthwise) for ch in c[2:])
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        p3 = self.dark3(self.dark2(self.stem(x)))
        p4 = self.dark4(p3)
        p5 = self.lateral5(self.dark5(p4))
        p4 = self.lateral4(self.top_down4(torch.cat([self.upsample(p5), p4], 1)))
        p3 = self.top_down3(torch.cat([self.upsample(p4), p3], 1))
        p4 = self.bottom_up4(torch.cat([self.down3(p3), p4], 1))
        p5 = self.bottom_up5(torch.cat([self.down4(p4), p5], 1))
        maps = [head(level) for head, level in zip(self.heads, (p3, p4, p5), strict=True)]
        return torch.cat([m.flatten(2) for m in maps], 2).transpose(1, 2)


def grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Cell corners (N, 2) in cells and strides (N, 1) in px, in the order of `Yolox.forward`."""
    corners, strides = [], []
    for stride in STRIDES:
        ys, xs = torch.meshgrid(
            torch.arange(height // stride), torch.arange(width // stride), indexing="ij"
        )
        corners.append(torch.stack([xs, ys], -1).reshape(-1, 2).float())
        strides.append(torch.full((corners[-1].shape[0], 1), float(stride)))
    return torch.cat(corners), torch.cat(strides)


def decode_boxes(raw: Tensor, corners: Tensor, strides: Tensor) -> Tensor:
    """Boxes (..., N, 4) as cx, cy, w, h in input pixels from the raw head values."""
    centre = (raw[..., :2] + corners) * strides
    # 8 strides of headroom over the largest input keep exp finite on garbage.
    size = torch.exp(raw[..., 2:4].clamp(max=8.0)) * strides
    return torch.cat([centre, size], -1)


def decode(raw: Tensor, corners: Tensor, strides: Tensor) -> Tensor:
    """The model's published output (B, N, 5 + classes): boxes in px, probabilities after them."""
    return torch.cat([decode_boxes(raw, corners, strides), raw[..., 4:].sigmoid()], -1)


def load_fused_onnx(model: Yolox, path: Path, rows: list[int | None], calibration: Tensor) -> None:
    """Start from an ONNX export whose batch norms were folded into the convolutions.

    The export lists its convolutions in execution order, which is the order of a forward pass
    here. Each norm is re-created around the folded kernel from the statistics of `calibration`
    (B, 3, H, W), so that the network in evaluation mode computes what the export computes. `rows`
    names for each class its row in the export's class outputs; one with None stays as initialised.

    Raises ValueError if the convolutions do not pair up.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    arrays = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    exported = [(arrays[n.input[1]], arrays[n.input[2]]) for n in graph.node if n.op_type == "Conv"]
    order: list[nn.Conv2d] = []
    owner: dict[nn.Conv2d, ConvBlock] = {
        m.conv: m for m in model.modules() if isinstance(m, ConvBlock)
    }
    class_outputs = {m.class_out for m in model.modules() if isinstance(m, HeadLevel)}
    folded: dict[nn.Conv2d, Tensor] = {}
    queue = iter(exported)

    def before(conv: nn.Conv2d, _inputs: object) -> None:
        order.append(conv)
        weight, bias = next(queue, (None, None))
        if weight is None or bias is None:
            raise ValueError(f"{path}: {len(exported)} convolutions, the network has more")
        if conv in class_outputs and conv.weight.shape[1:] == weight.shape[1:]:
            assert conv.bias is not None
            for row, source in enumerate(rows):
                if source is not None:
                    conv.weight.data[row] = weight[source]
                    conv.bias.data[row] = bias[source]
        elif conv.weight.shape == weight.shape:
            conv.weight.data.copy_(weight)
            if conv.bias is not None:
                conv.bias.data.copy_(bias)
            else:
                folded[conv] = bias
        else:
            raise ValueError(
                f"{path}: convolution {len(order)} is {tuple(weight.shape)}, "
                f"the network has {tuple(conv.weight.shape)}"
            )

    def after(conv: nn.Conv2d, _inputs: object, output: Tensor) -> None:
        block = owner.get(conv)
        if block is None or not isinstance(block.norm, nn.BatchNorm2d):
            return
        norm = block.norm
        variance, mean = torch.var_mean(output, dim=(0, 2, 3))
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.data.copy_(torch.sqrt(variance + norm.eps))
        norm.bias.data.copy_(folded[conv] + mean)

    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_pre_hook(before))
            hooks.append(module.register_forward_hook(after))
    model.eval()
    try:
        with torch.no_grad():
            model(calibration)
    finally:
        for hook in hooks:
            hook.remove()
    if len(order) != len(exported):
        raise ValueError(f"{path}: {len(exported)} convolutions, the network has {len(order)}")


def fuse(model: Yolox) -> Yolox:
    """Fold every norm into its convolution, in place."""
    for module in model.modules():
        if isinstance(module, ConvBlock):
            module.fuse()
    return model
