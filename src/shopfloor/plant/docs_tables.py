"""The generated parts of docs/: tables of parameters and topics, kept equal to the code by a test.

A page holds `<!-- parameters NODE_TYPE -->`, `<!-- topics NODE_TYPE -->` or `<!-- interfaces -->`,
and `<!-- end -->` after it; what lies between is written from the code.

    python -m shopfloor.plant.docs_tables           writes the pages
    python -m shopfloor.plant.docs_tables --check   says which pages are behind
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from shopfloor.plant.nodes import NODE_TYPES, load
from shopfloor.ros import interfaces, parameters
from shopfloor.ros.paths import share_folder

_BLOCK = re.compile(
    r"(<!-- (parameters|topics|interfaces) ?(\w*) -->\n).*?(<!-- end -->)", re.DOTALL
)


def render(page: str) -> str:
    """The page with its tables as the code has them. Raises KeyError on an unknown node type."""
    return _BLOCK.sub(lambda m: f"{m[1]}{_table(m[2], m[3])}\n{m[4]}", page)


def behind(folder: Path) -> dict[Path, str]:
    """The pages whose tables are not up to date, with their right text."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))}
    return {path: render(text) for path, text in pages.items() if render(text) != text}


def _table(kind: str, node: str) -> str:
    if kind == "interfaces":
        return interfaces.markdown_table()
    if kind == "parameters":
        return parameters.markdown_table(load(NODE_TYPES[node].parameters))
    return _topics(node)


def _topics(node: str) -> str:
    lines = ["| | name | type | meaning |", "|---|---|---|---|"]
    for row in interfaces.INTERFACES:
        service = row.kind is not interfaces.Kind.TOPIC
        if node in row.servers or "*" in row.servers:
            direction = "serves" if service else "publishes"
        elif node in row.clients:
            direction = "calls" if service else "subscribes"
        else:
            continue
        lines.append(f"| {direction} | `{row.name}` | `{row.type}` | {row.meaning} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the pages; 1 when --check finds one behind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is behind")
    check = parser.parse_args(arguments).check
    pages = behind(share_folder() / "docs")
    for path, text in pages.items():
        if check:
            print(f"{path}: its tables are behind the code; run this without --check")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{path}: written")
    return int(check and bool(pages))


if __name__ == "__main__":
    sys.exit(main())
