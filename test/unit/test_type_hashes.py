"""The types are the locked ones, and the lock notices every kind of change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from shopfloor.ros import type_lock

REASON = "rosidl isn't installed here: hashes can't be computed"
pytest.importorskip("rosidl_adapter", reason=REASON)
pytest.importorskip("rosidl_generator_type_description", reason=REASON)

MSGS = Path(__file__).resolve().parents[2] / "msgs"


@pytest.fixture(scope="module")
def now() -> type_lock.Lock:
    return type_lock.current(MSGS)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with three locked types: Inner, Outer that contains it, and a service."""
    for kind in ("msg", "srv"):
        (tmp_path / kind).mkdir()
    (tmp_path / "msg" / "Inner.msg").write_text("uint8 STATE_UNKNOWN=0\nuint8 state # one\n")
    (tmp_path / "msg" / "Outer.msg").write_text("std_msgs/Header header\nInner[<=4] inner\n")
    (tmp_path / "srv" / "Act.srv").write_text("uint8 GO=1\nuint8 action\n---\nbool done\n")
    assert type_lock.main(["--write", "--msgs", str(tmp_path)]) == 0
    return tmp_path


def changes(folder: Path) -> list[str]:
    lock = type_lock.read(folder / type_lock.LOCK_NAME)
    return type_lock.differences(lock, type_lock.current(folder), folder)


def test_types_are_as_locked(now: type_lock.Lock) -> None:
    lines = type_lock.differences(type_lock.read(MSGS / type_lock.LOCK_NAME), now, MSGS)
    assert not lines, "\n".join(["types changed:", *lines, type_lock.UPDATE])


def test_built_types_have_the_locked_hash(now: type_lock.Lock) -> None:
    built = type_lock.built_hashes()
    if not built:
        pytest.skip("shopfloor_msgs isn't built in this environment")
    different = [n for n in sorted(now) if built.get(n) != now[n]["hash"]]
    assert not different, f"built types are older than msgs/, build again: {', '.join(different)}"


def test_comment_is_no_change(small: Path) -> None:
    (small / "msg" / "Inner.msg").write_text(
        "# Now with a comment.\nuint8 STATE_UNKNOWN=0\nuint8 state\n"
    )
    assert changes(small) == []


def test_changed_field_names_the_type_and_its_carrier(small: Path) -> None:
    (small / "msg" / "Inner.msg").write_text("uint8 STATE_UNKNOWN=0\nuint16 state\n")
    assert changes(small) == [
        "shopfloor_msgs/msg/Inner: fields changed",
        "shopfloor_msgs/msg/Outer: changed, contains shopfloor_msgs/msg/Inner",
    ]


def test_changed_bound_is_a_change(small: Path) -> None:
    (small / "msg" / "Outer.msg").write_text("std_msgs/Header header\nInner[<=5] inner\n")
    assert changes(small) == ["shopfloor_msgs/msg/Outer: fields changed"]


def test_swapped_fields_are_a_change(small: Path) -> None:
    (small / "msg" / "Outer.msg").write_text("Inner[<=4] inner\nstd_msgs/Header header\n")
    assert changes(small) == ["shopfloor_msgs/msg/Outer: fields changed"]


def test_changed_answer_of_a_service_is_a_change(small: Path) -> None:
    (small / "srv" / "Act.srv").write_text("uint8 GO=1\nuint8 action\n---\nuint8 done\n")
    assert changes(small) == ["shopfloor_msgs/srv/Act: fields changed"]


@pytest.mark.parametrize(
    ("path", "text", "line"),
    [
        (
            "msg/Inner.msg",
            "uint8 STATE_UNKNOWN=3\nuint8 state\n",
            "shopfloor_msgs/msg/Inner: constant STATE_UNKNOWN was 0, is 3",
        ),
        (
            "msg/Inner.msg",
            "uint8 state\n",
            "shopfloor_msgs/msg/Inner: constant STATE_UNKNOWN was 0, is absent",
        ),
        (
            "srv/Act.srv",
            "uint8 GO=1\nuint8 action\n---\nuint8 GO=1\nbool done\n",
            "shopfloor_msgs/srv/Act: constant response.GO was absent, is 1",
        ),
    ],
)
def test_constant_outside_the_hash_is_locked(small: Path, path: str, text: str, line: str) -> None:
    (small / path).write_text(text)
    assert changes(small) == [line]


def test_new_and_removed_types(small: Path) -> None:
    (small / "srv" / "Act.srv").rename(small / "srv" / "Do.srv")
    assert changes(small) == ["shopfloor_msgs/srv/Do: new", "shopfloor_msgs/srv/Act: removed"]


def test_check_says_how_to_update(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert type_lock.main(["--check", "--msgs", str(small)]) == 0
    (small / "msg" / "Inner.msg").write_text("uint8 STATE_UNKNOWN=0\nuint16 state\n")
    assert type_lock.main(["--check", "--msgs", str(small)]) == 1
    said = capsys.readouterr().out
    assert "shopfloor_msgs/msg/Inner" in said
    assert "CHANGELOG.md" in said
    assert "--write" in said


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("msg/Inner.msg", "uint8 State\n", "Inner.msg"),
        ("msg/Inner.msg", "Absent state\n", "Absent"),
        ("msg/Inner.msg", "nowhere_msgs/Thing state\n", "nowhere_msgs"),
        ("msg/Inner.msg", "uint8 state\n---\nuint8 more\n", "Inner.msg:2"),
        ("msg/Inner.msg", "uint8 state extra words\n", "Inner.msg"),
        ("srv/Act.srv", "uint8 action\n", "Act.srv"),
    ],
)
def test_broken_definition_is_named(
    small: Path, capsys: pytest.CaptureFixture[str], path: str, text: str, said: str
) -> None:
    (small / path).write_text(text)
    assert type_lock.main(["--check", "--msgs", str(small)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", '{"shopfloor_msgs/msg/Inner": "RIHS01_0"}'])
def test_broken_lock_is_named(small: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (small / type_lock.LOCK_NAME).write_text(text)
    assert type_lock.main(["--check", "--msgs", str(small)]) == 2
    assert type_lock.LOCK_NAME in capsys.readouterr().err


def test_missing_lock_and_empty_folder_are_named(
    small: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    (small / type_lock.LOCK_NAME).unlink()
    assert type_lock.main(["--check", "--msgs", str(small)]) == 2
    assert "--write" in capsys.readouterr().err
    empty = tmp_path_factory.mktemp("empty")
    assert type_lock.main(["--write", "--msgs", str(empty)]) == 2
    assert str(empty) in capsys.readouterr().err


def test_folder_with_spaces(small: Path, tmp_path: Path) -> None:
    other = tmp_path / "a folder"
    shutil.copytree(small, other, ignore=shutil.ignore_patterns("a folder"))
    assert changes(other) == []


def test_house_rules_of_the_types() -> None:
    """Enums begin at UNKNOWN or NONE, strings and arrays are bounded, every field is explained."""
    broken: list[str] = []
    for name, path in type_lock.definitions(MSGS).items():
        _, constants = type_lock.split_constants(path)
        broken += [
            f"{name}: {key} = 0, but 0 means UNKNOWN"
            for key, value in constants.items()
            if value == 0 and not key.endswith(("_UNKNOWN", "_NONE"))
        ]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            code, _, comment = line.partition("#")
            where = f"{name}:{number}"
            if len(line) > 100:
                broken.append(f"{where}: longer than 100")
            if not code.strip() or code.strip() == "---":
                continue
            if code.split()[0].startswith("string") and "string<=" not in code:
                broken.append(f"{where}: string without bound")
            if "[]" in code:
                broken.append(f"{where}: array without bound")
            if "=" not in code.replace("<=", "") and not comment.strip():
                broken.append(f"{where}: field without comment")
    assert not broken, "\n".join(broken)


def test_lock_is_stable_text(small: Path) -> None:
    lock = small / type_lock.LOCK_NAME
    before = lock.read_text()
    type_lock.write(lock, dict(reversed(list(json.loads(before).items()))))
    assert lock.read_text() == before
