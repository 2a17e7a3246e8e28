"""The house rules that imports can break: core and node apart, features apart, one direction."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "shopfloor"
NOT_FEATURES = {"ros", "plant", "bootstrap", "demo", "sim", "replay"}
"""Shared, or a tool that looks at all features."""

FEATURES = sorted(
    folder.name
    for folder in SOURCE.iterdir()
    if (folder / "__init__.py").is_file() and folder.name not in NOT_FEATURES
)
MESSAGES = ("builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs",
            "sensor_msgs", "shopfloor_msgs", "std_msgs", "std_srvs", "vision_msgs",
            "visualization_msgs")  # fmt: skip


def is_node_layer(path: Path) -> bool:
    """Files that may know ROS: `node.py`, its parts `node_*.py`, other nodes `*_node.py`,
    `*messages.py`, which turn what a core returns into messages, and the folder's command
    `__main__.py`.
    """
    name = path.stem
    ends = ("_node", "messages")
    return name in ("node", "__main__") or name.startswith("node_") or name.endswith(ends)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, outside `if TYPE_CHECKING:` too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(feature: str) -> list[Path]:
    return sorted((SOURCE / feature).rglob("*.py"))


def ros_modules() -> set[str]:
    """Modules of `ros/` that need ROS when they are imported."""
    return {
        f"shopfloor.ros.{path.stem}"
        for path in (SOURCE / "ros").glob("*.py")
        if any(
            name.split(".")[0] == "rclpy" or name.startswith(MESSAGES)
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in ([a.name for a in node.names] if isinstance(node, ast.Import)
                         else [node.module or ""])
        )
    }  # fmt: skip


@pytest.mark.parametrize("feature", FEATURES)
def test_a_core_knows_no_ros_and_no_message(feature: str) -> None:
    needing = ros_modules()
    assert "shopfloor.ros.node" in needing and "shopfloor.ros.timing" not in needing
    for path in files(feature):
        if is_node_layer(path):
            continue
        for name in imports(path):
            assert name.split(".")[0] not in ("rclpy", *MESSAGES), f"{path} imports {name}"
            assert name not in needing, f"{path} imports {name}, which needs ROS"
            leaf = SOURCE.joinpath(*name.split(".")[1:]).with_suffix(".py")
            if name.startswith("shopfloor.") and leaf.is_file():
                assert not is_node_layer(leaf), f"{path} imports the node layer: {name}"


@pytest.mark.parametrize("feature", FEATURES)
def test_features_do_not_import_each_other(feature: str) -> None:
    others = [f"shopfloor.{other}" for other in FEATURES if other != feature]
    for path in files(feature):
        for name in imports(path):
            for other in others:
                assert name != other and not name.startswith(f"{other}."), f"{path} imports {name}"


def test_what_is_shared_imports_no_feature() -> None:
    for path in files("ros"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "shopfloor" and len(parts) > 1:
                assert parts[1] == "ros", f"{path} imports {name}"
