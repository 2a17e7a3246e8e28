"""The files that the bootstrap reads and repairs: lock file, stamps, wheels, entry points."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

import pytest

from shopfloor.bootstrap.errors import BootstrapError
from shopfloor.bootstrap.lock import SECTIONS, pin_name, pin_version, read_lock
from shopfloor.bootstrap.stamps import digest_files, digest_text, read_stamp, write_stamp
from shopfloor.bootstrap.wheels import library_folders, repair

ROOT = Path(__file__).resolve().parents[2]
CMAKE = """\
set(python "/opt/python/cp311-cp311/include/python3.11")
set(numpy "/opt/_internal/cpython-3.11.9/lib/python3.11/site-packages/numpy/_core/include;/usr/x")
set_target_properties(a PROPERTIES INTERFACE_INCLUDE_DIRECTORIES
  "${_IMPORT_PREFIX}/include/a;/opt/python/cp311-cp311/include/python3.11")
"""


def make_wheels(venv: Path) -> Path:
    """A virtual environment as pip leaves it after the wheels."""
    cmake = venv / "share" / "a" / "cmake" / "aExport.cmake"
    cmake.parent.mkdir(parents=True)
    cmake.write_text(CMAKE)
    (cmake.parent / "clean.cmake").write_text("set(x /opt/other/include)\n")
    index = venv / "share" / "ament_index" / "resource_index" / "parent_prefix_path"
    index.mkdir(parents=True)
    (index / "a").write_text("/opt/ros/jazzy")
    (index / "b").write_text("")
    return cmake


def test_repair_points_at_this_interpreter(tmp_path: Path) -> None:
    venv = tmp_path / "a place" / ".venv"
    cmake = make_wheels(venv)
    done = repair(venv, Path("/py inc/python3.12"), Path("/np/include"))
    text = cmake.read_text()
    assert "/opt/" not in text
    assert text.count("/py inc/python3.12") == 2
    assert '"/np/include;/usr/x"' in text
    assert "${_IMPORT_PREFIX}/include/a;" in text
    assert (done.cmake_files, done.prefix_files) == (1, 1)
    prefix = venv / "share" / "ament_index" / "resource_index" / "parent_prefix_path" / "a"
    assert prefix.read_text() == ""
    assert "/opt/other" in (cmake.parent / "clean.cmake").read_text()


def test_repair_twice_changes_nothing(tmp_path: Path) -> None:
    cmake = make_wheels(tmp_path)
    repair(tmp_path, Path("/p"), Path("/n"))
    before = cmake.read_text()
    done = repair(tmp_path, Path("/p"), Path("/n"))
    assert (done.cmake_files, done.prefix_files) == (0, 0)
    assert cmake.read_text() == before


def test_repair_takes_paths_with_backslashes_literally(tmp_path: Path) -> None:
    cmake = make_wheels(tmp_path)
    repair(tmp_path, Path(r"/odd\1name"), Path("/n"))
    assert r"/odd\1name" in cmake.read_text()


def test_library_folders_are_the_wheels_own_and_lib(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("ros_rcl.libs", "numpy.libs", "ros_fastrtps.libs"):
        (site / name).mkdir(parents=True)
    names = [path.name for path in library_folders(tmp_path)]
    assert names == ["ros_fastrtps.libs", "ros_rcl.libs", "lib"]


def write_lock(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(text)
    return path


def test_lock_sections_split_direct_and_needed(tmp_path: Path) -> None:
    lock = read_lock(
        write_lock(
            tmp_path,
            "# words\n# == ros\nros-a==1\n\n# == dev\nB_c.d==2 ; python_version < '3.11'\n"
            "#   and what these need\ne==3\n",
        )
    )
    assert lock["ros"].lines == ["ros-a==1"]
    assert lock["dev"].direct == ["B_c.d==2 ; python_version < '3.11'"]
    assert lock["dev"].needed == ["e==3"]
    assert lock["runtime"].lines == []
    assert pin_name(lock["dev"].direct[0]) == "b-c-d"
    assert pin_version(lock["dev"].lines, "b.C_d") == "2"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# == ros\nros-a>=1\n", 2),
        ("ros-a==1\n", 1),
        ("# == runtimes\n", 1),
        ("# == ros\na==1\n-r other.txt\n", 3),
        ("# == ros\na==1 b==2\n", 2),
    ],
)
def test_lock_errors_name_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    path = write_lock(tmp_path, text)
    with pytest.raises(BootstrapError, match=re.escape(f"{path}:{line}: ")):
        read_lock(path)


def test_missing_pin_is_named() -> None:
    with pytest.raises(BootstrapError, match="'numpy'"):
        pin_version(["scipy==1"], "numpy")


def test_the_projects_lock_pins_each_package_once() -> None:
    lock = read_lock(ROOT / "requirements.lock")
    names = [pin_name(line) for section in SECTIONS for line in lock[section].lines]
    assert sorted(set(names)) == sorted(names)
    assert all(lock[section].direct for section in SECTIONS)


def test_stamp_comes_back_and_is_whole_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "stamp.json"
    assert read_stamp(path) == {}
    write_stamp(path, {"a": "1"})
    assert read_stamp(path) == {"a": "1"}
    assert [item.name for item in tmp_path.iterdir()] == ["stamp.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00\xff", '"a"'])
def test_broken_stamp_counts_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stamp.json"
    path.write_text(text, encoding="latin-1")
    assert read_stamp(path) == {}


def test_digest_sees_content_name_and_absence(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    seen = {digest_files(tmp_path, [first])}
    seen.add(digest_files(tmp_path, [first, second]))
    first.write_text("2")
    seen.add(digest_files(tmp_path, [first]))
    first.rename(second)
    seen.add(digest_files(tmp_path, [second]))
    seen.add(digest_files(tmp_path, [first]))
    assert len(seen) == 5


def test_digest_of_texts_keeps_their_borders() -> None:
    assert digest_text(["ab", "c"]) != digest_text(["a", "bc"])
    assert digest_text([]) != digest_text([""])


def test_digest_does_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    assert digest_files(tmp_path, paths) == digest_files(tmp_path, reversed(paths))


def test_every_executable_of_setup_cfg_exists() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    scripts = config["options.entry_points"]["console_scripts"].split("\n")
    for script in filter(None, scripts):
        name, _, target = script.partition(" = ")
        module, _, function = target.partition(":")
        tree = ast.parse((ROOT / "src" / (module.replace(".", "/") + ".py")).read_text())
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in defined, f"{name}: {module} has no {function}()"
