"""The network in torch: what it starts from, that it grows without a change, that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is for training only and is not here")

from training.assign import yolox_loss  # noqa: E402
from training.export import write_onnx  # noqa: E402
from training.grow import grow  # noqa: E402
from training.network import Yolox, decode, decode_boxes, grid, load_fused_onnx  # noqa: E402


def settled(model: Any, size: int = 96) -> Any:
    """The network with norms that have seen pictures, in evaluation mode."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, bias in model.named_parameters():
            if name.endswith("out.bias"):
                bias.normal_()
        for _ in range(20):
            model.train()(torch.rand(2, 3, size, size) * 255)
    return model.eval()


def test_a_grown_network_computes_what_the_nano_computes() -> None:
    nano, pictures = settled(Yolox(3)), torch.rand(1, 3, 96, 96) * 255
    full = grow(nano, Yolox(3, depthwise=False)).eval()
    assert sum(p.numel() for p in full.parameters()) > 1.5 * sum(
        p.numel() for p in nano.parameters()
    )
    with torch.no_grad():
        assert torch.allclose(full(pictures), nano(pictures), atol=1e-4)


def test_a_network_of_another_width_does_not_grow() -> None:
    with pytest.raises(ValueError, match="does not grow"):
        grow(Yolox(3), Yolox(3, width=0.375, depthwise=False))


def test_an_export_starts_a_training_with_its_classes_moved(tmp_path: Path) -> None:
    first, pictures = settled(Yolox(3)), torch.rand(2, 3, 96, 96) * 255
    with torch.no_grad():
        wanted = first(pictures)
    write_onnx(first, tmp_path / "model.onnx", 96)
    second = Yolox(4)
    load_fused_onnx(second, tmp_path / "model.onnx", [2, None, 0, 1], pictures)
    with torch.no_grad():
        found = second.eval()(pictures)
    assert torch.allclose(found[..., :5], wanted[..., :5], atol=1e-3)
    assert torch.allclose(found[..., [5, 7, 8]], wanted[..., [7, 5, 6]], atol=1e-3)


def test_the_export_says_what_the_network_says(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model, pictures = settled(Yolox(3)), torch.rand(1, 3, 96, 96) * 255
    with torch.no_grad():
        wanted = decode(model(pictures), *grid(96, 96)).numpy()
    write_onnx(model, tmp_path / "model.onnx", 96)
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": pictures.numpy()})
    assert np.allclose(found, wanted, atol=1e-3)


def test_the_mean_over_mirror_images_mirrors_with_the_picture(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model, pictures = settled(Yolox(3)), torch.rand(1, 3, 96, 96) * 255

    def unlike(file: Path, axes: list[int]) -> float:
        """How far its boxes for a mirrored picture are from the mirrored boxes, in px."""
        session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
        first, second = (
            session.run(None, {"images": view.numpy()})[0][0]
            for view in (pictures, pictures.flip(axes))
        )
        for axis, centre in ((3, 0), (2, 1)):
            if axis in axes:
                second[:, centre] = 96 - second[:, centre]
        return float(np.abs(first[:, None] - second[None]).max(-1).min(1).max())

    write_onnx(settled(Yolox(3)), tmp_path / "plain.onnx", 96)
    write_onnx(model, tmp_path / "mean.onnx", 96, mirrored=True)
    for axes in ([3], [2], [2, 3]):
        assert unlike(tmp_path / "plain.onnx", axes) > 0.05
        assert unlike(tmp_path / "mean.onnx", axes) < 0.005


def test_it_learns_one_picture() -> None:
    torch.manual_seed(1)
    model = Yolox(2).train()
    pictures = torch.full((2, 3, 96, 96), 114.0)
    pictures[0, :, 20:52, 30:70] = 255.0
    targets = [torch.tensor([[30.0, 20.0, 70.0, 52.0, 1.0]]), torch.zeros(0, 5)]
    corners, strides = grid(96, 96)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        raw = model(pictures)
        loss = yolox_loss(raw, decode_boxes(raw, corners, strides), targets, corners, strides)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        losses.append(float(loss.total.detach()))
    assert np.median(losses[-10:]) < 0.5 * np.median(losses[:5])
