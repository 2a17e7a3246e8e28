"""Lock of the message types: a type that changes unannounced breaks peers, bags and PLC mappings.

`msgs/type_hashes.json` holds, for each type, the hash that ROS 2 uses on the wire (REP-2011,
RIHS01) and its constants, which that hash leaves out. From the root of the checkout,
`python -m shopfloor.ros.type_lock --check` compares and `--write` accepts the types as they are
now. Nothing has to be built: the hashes come from rosidl's own generator.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

PACKAGE = "shopfloor_msgs"
LOCK_NAME = "type_hashes.json"
UPDATE = (
    "If that is meant: say so in CHANGELOG.md, run 'python -m shopfloor.ros.type_lock --write', "
    f"and commit msgs/{LOCK_NAME} with it. Recorded bags and running peers need the same types."
)
_SUFFIXES = {"msg": ".msg", "srv": ".srv", "action": ".action"}
_SECTIONS = {
    "msg": ("",),
    "srv": ("request.", "response."),
    "action": ("goal.", "result.", "feedback."),
}
_CONSTANT = re.compile(r"^\S+\s+([A-Z][A-Z0-9_]*)\s*=\s*(.*?)\s*$")

Lock = dict[str, dict[str, Any]]
"""Type name, for example `shopfloor_msgs/msg/Command`, to `{"hash": str, "constants": {...}}`."""


def definitions(msgs: Path) -> dict[str, Path]:
    """Full type name to file of every interface in `msgs`; ValueError if there is none."""
    found = {
        f"{PACKAGE}/{kind}/{path.stem}": path
        for kind, suffix in _SUFFIXES.items()
        for path in sorted((msgs / kind).glob(f"*{suffix}"))
    }
    if not found:
        raise ValueError(f"no .msg, .srv or .action file under '{msgs}'")
    return found


def split_constants(path: Path) -> tuple[str, dict[str, int | float | str]]:
    """The definition without comments and constants, and the constants by name.

    In services and actions a constant is named with its section, for example `request.ACTION_STOP`.
    """
    sections = _SECTIONS[path.suffix.lstrip(".")]
    section = 0
    fields: list[str] = []
    constants: dict[str, int | float | str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        code = line.split("#", 1)[0].strip()
        match = _CONSTANT.match(code)
        if match:
            constants[sections[section] + match[1]] = _value(match[2])
            continue
        if code == "---":
            section += 1
            if section == len(sections):
                raise ValueError(f"{path}:{number}: more than {len(sections)} sections")
        fields.append(code)
    return "\n".join(fields) + "\n", constants


def _value(text: str) -> int | float | str:
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text.strip("\"'")


def _find_shares() -> dict[str, Path]:
    """Package name to share folder of every interface package that this environment offers."""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    found: dict[str, Path] = {}
    for prefix in filter(None, prefixes):
        for kind in _SUFFIXES:
            for folder in sorted(Path(prefix, "share").glob(f"*/{kind}")):
                found.setdefault(folder.parent.name, folder.parent)
    return found


def built_hashes() -> dict[str, str]:
    """Full type name to hash of the types as built; empty where they aren't built."""
    folder = _find_shares().get(PACKAGE)
    if folder is None:
        return {}
    return {
        f"{PACKAGE}/{kind}/{path.stem}": _hash_of(path)
        for kind in _SUFFIXES
        for path in (folder / kind).glob("*.json")
    }


def _hash_of(path: Path) -> str:
    described = json.loads(path.read_text(encoding="utf-8"))
    return str(described["type_hashes"][0]["hash_string"])


def current(msgs: Path) -> Lock:
    """What the lock would say about the types as they are now.

    Raises ModuleNotFoundError where rosidl isn't installed, ValueError on a definition or
    dependency that rosidl refuses.
    """
    from rosidl_adapter import convert_to_idl
    from rosidl_generator_type_description import generate_type_hash

    lock: Lock = {}
    with tempfile.TemporaryDirectory(prefix="shopfloor_types_") as scratch:
        source, output = Path(scratch, "source"), Path(scratch, "output")
        idl: list[str] = []
        for name, path in definitions(msgs).items():
            # rosidl's parser needs four times as long with the comments; they aren't hashed.
            text, constants = split_constants(path)
            relative = path.relative_to(msgs)
            (source / relative).parent.mkdir(parents=True, exist_ok=True)
            (source / relative).write_text(text, encoding="utf-8")
            lock[name] = {"hash": "", "constants": constants}
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    convert_to_idl(source, PACKAGE, relative, output)
            except Exception as error:  # rosidl's errors share no base class
                raise ValueError(f"{path}: {error}") from error
            idl.append(f"{output}:{relative.with_suffix('.idl').as_posix()}")
        arguments = Path(scratch, "arguments.json")
        shares = _find_shares()
        includes = [f"{name}:{folder}" for name, folder in shares.items() if name != PACKAGE]
        arguments.write_text(
            json.dumps(
                {
                    "package_name": PACKAGE,
                    "output_dir": str(output),
                    "idl_tuples": idl,
                    "include_paths": includes,
                }
            ),
            encoding="utf-8",
        )
        try:
            generate_type_hash(str(arguments))
        except (KeyError, FileNotFoundError) as error:
            raise ValueError(f"a type refers to one that isn't there: {error}") from error
        for name, entry in lock.items():
            written = output / Path(*name.split("/")[1:]).with_suffix(".json")
            entry["hash"] = _hash_of(written)
    return lock


def read(path: Path) -> Lock:
    """The lock file; ValueError that names it if it isn't one."""
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no lock '{path}': write it with --write") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(lock, dict) or not all(
        isinstance(entry, dict) and {"hash", "constants"} <= entry.keys() for entry in lock.values()
    ):
        raise ValueError(f"{path}: each type needs 'hash' and 'constants'")
    return lock


def write(path: Path, lock: Lock) -> None:
    """Write the lock with a stable order, one type after the other."""
    path.write_text(json.dumps(lock, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def differences(locked: Lock, now: Lock, msgs: Path) -> list[str]:
    """One line per type that was added, removed or changed; types that only carry one come last."""
    lines = [f"{name}: new" for name in sorted(now.keys() - locked.keys())]
    lines += [f"{name}: removed" for name in sorted(locked.keys() - now.keys())]
    changed = {n for n in now.keys() & locked.keys() if now[n]["hash"] != locked[n]["hash"]}
    files = definitions(msgs)
    carriers: list[str] = []
    for name in sorted(now.keys() & locked.keys()):
        if name in changed:
            inside = sorted(_references(files[name]) & changed)
            if inside:
                carriers.append(f"{name}: changed, contains {', '.join(inside)}")
            else:
                lines.append(f"{name}: fields changed")
        before, after = locked[name]["constants"], now[name]["constants"]
        lines += [
            f"{name}: constant {key} was {before.get(key, 'absent')}, is {after.get(key, 'absent')}"
            for key in sorted(before.keys() | after.keys())
            if before.get(key) != after.get(key)
        ]
    return lines + carriers


def _references(path: Path) -> set[str]:
    """Full names of this package's messages that a definition uses."""
    text, _ = split_constants(path)
    bases = (re.split(r"[\[\s]", line, maxsplit=1)[0] for line in text.splitlines() if line)
    return {f"{PACKAGE}/msg/{base}" for base in bases if re.fullmatch(r"[A-Z]\w*", base)}


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 equal or written, 1 different, 2 could not be compared."""
    parser = argparse.ArgumentParser(prog="python -m shopfloor.ros.type_lock", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="compare types and lock")
    action.add_argument("--write", action="store_true", help="accept the types as they are now")
    parser.add_argument("--msgs", type=Path, default=Path("msgs"), help="folder of the types")
    options = parser.parse_args(argv)
    options.msgs = options.msgs.resolve()
    lock_path = options.msgs / LOCK_NAME
    try:
        now = current(options.msgs)
        if options.write:
            write(lock_path, now)
            print(f"{lock_path}: {len(now)} types")
            return 0
        lines = differences(read(lock_path), now, options.msgs)
    except (ValueError, ModuleNotFoundError) as error:
        print(f"type_lock: {error}", file=sys.stderr)
        return 2
    if lines:
        print("\n".join([*lines, UPDATE]))
        return 1
    print(f"{len(now)} types as locked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
