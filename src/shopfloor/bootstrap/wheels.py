"""Makes the ROS 2 wheels of PyPI usable for builds.

The wheels carry the real rclpy, Fast DDS, rosidl and ament, but as they were installed in the
container that built them. After pip has unpacked them into a virtual environment:

- include folders in `share/*/cmake/*.cmake` name that container's Python and NumPy
  (`/opt/python/cp311-cp311/include/python3.11`, `.../site-packages/numpy/_core/include`);
  `repair` points them at this interpreter and this NumPy;
- `share/ament_index/resource_index/parent_prefix_path/*` names the container's prefix;
  `repair` empties these files.

Both steps find nothing to do when run again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_CONTAINER = r"/opt/(?:python|_internal)/[^/;\"\s]+"
_NUMPY = re.compile(_CONTAINER + r"/lib/python3\.\d+/site-packages/numpy/[^;\"\s]*include")
_PYTHON = re.compile(_CONTAINER + r"/include/python3\.\d+")


@dataclass(frozen=True)
class Repair:
    """What `repair` changed."""

    cmake_files: int
    prefix_files: int


def repair(venv: Path, python_include: Path, numpy_include: Path) -> Repair:
    """Repairs the installed wheels under `venv` in place.

    `python_include` is the folder with Python.h, `numpy_include` the one with
    numpy/arrayobject.h.
    """
    cmake_files = 0
    for path in sorted((venv / "share").glob("*/cmake/*.cmake")):
        text = path.read_text(encoding="utf-8")
        fixed = _NUMPY.sub(lambda _: str(numpy_include), text)
        fixed = _PYTHON.sub(lambda _: str(python_include), fixed)
        if fixed != text:
            path.write_text(fixed, encoding="utf-8")
            cmake_files += 1
    prefix_files = 0
    index = venv / "share" / "ament_index" / "resource_index" / "parent_prefix_path"
    for path in sorted(index.glob("*")):
        if path.stat().st_size:
            path.write_text("", encoding="utf-8")
            prefix_files += 1
    return Repair(cmake_files, prefix_files)


def library_folders(venv: Path) -> list[Path]:
    """Folders that the dynamic linker must search: each wheel's own libraries and `lib`."""
    return [*sorted(venv.glob("lib/python3.*/site-packages/ros_*.libs")), venv / "lib"]
