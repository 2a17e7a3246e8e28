"""The device nodes and groups that a process needs, so that a unit can refuse all others.

Names as in /proc/devices and the device files of a Jetson (JetPack 5 and 6) and of a server with
NVIDIA's driver; see DeviceAllow in systemd.resource-control(5).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shopfloor.plant.plant_file import Host, Node

_VIDEO = ("char-video4linux", "char-media")
_USB = ("char-usb_device",)
_NVIDIA = (
    "char-nvidia*",
    "char-nvgpu*",
    "char-nvhost*",
    "/dev/nvmap",
    "/dev/nvsciipc",
    "char-drm",
)
_CAMERA_SOURCES = {
    "v4l2": _VIDEO,
    "gstreamer": (*_VIDEO, *_NVIDIA),  # a CSI sensor comes through the Jetson's own decoder
    "genicam": _USB,
}
_USES_GPU = ("inspector", "detail_inspector", "thermal_watchdog")
_GROUPS = ("video", "render", "plugdev")


@dataclass(frozen=True)
class Devices:
    """Devices to allow, in the words of DeviceAllow, and the groups that may open them."""

    allow: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def devices_of(nodes: Iterable[Node], host: Host) -> Devices:
    """What the nodes of a process need on `host`; nothing where it only computes and talks."""
    allow: dict[str, None] = {}
    for node in nodes:
        if node.type == "camera":
            allow |= dict.fromkeys(_CAMERA_SOURCES.get(str(node.value("source")), ()))
        if node.type in _USES_GPU and "gpu" in host.capabilities:
            allow |= dict.fromkeys(_NVIDIA)
    return Devices(tuple(allow), _GROUPS if allow else ())
