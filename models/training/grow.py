"""A larger network that starts by computing exactly what a trained nano computes.

After Chen et al. 2016, "Net2Net": each depthwise 3x3 kernel becomes the diagonal of a full one,
whose other weights start at zero and are learned.
"""

from __future__ import annotations

import torch

from .network import Yolox


@torch.no_grad()
def grow(nano: Yolox, full: Yolox) -> Yolox:
    """Give `full`, the same network with full convolutions, the weights of `nano`; returns it.

    Raises ValueError where the two differ in more than that.
    """
    known = nano.state_dict()
    for name, weight in full.state_dict().items():
        source = known[name]
        if source.shape == weight.shape:
            weight.copy_(source)
        elif weight.ndim == 4 and source.shape == (len(weight), 1, *weight.shape[2:]):
            weight.zero_()
            weight[range(len(weight)), range(len(weight))] = source[:, 0]
        else:
            raise ValueError(
                f"{name}: {tuple(source.shape)} does not grow to {tuple(weight.shape)}"
            )
    return full
