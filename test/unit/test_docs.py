"""The docs say what the code does: tables up to date, a page per node, links that lead on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shopfloor.plant import docs_tables
from shopfloor.plant.nodes import NODE_TYPES
from shopfloor.ros.interfaces import INTERFACES

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_generated_tables_are_up_to_date() -> None:
    late = docs_tables.behind(ROOT / "docs")
    assert not late, f"run python -m shopfloor.plant.docs_tables: {[p.name for p in late]}"


def test_a_page_that_is_behind_is_found(tmp_path: Path) -> None:
    page = tmp_path / "x.md"
    page.write_text("<!-- parameters camera -->\nold\n<!-- end -->\n", "utf-8")
    (text,) = docs_tables.behind(tmp_path).values()
    page.write_text(text, "utf-8")
    assert "| parameter | default |" in text
    assert docs_tables.behind(tmp_path) == {}


@pytest.mark.parametrize("node", sorted(NODE_TYPES))
def test_each_node_has_a_page_with_its_tables(node: str) -> None:
    page = (ROOT / "docs" / f"{node}.md").read_text("utf-8")
    assert f"<!-- parameters {node} -->" in page
    assert f"<!-- topics {node} -->" in page
    assert "When things fail" in page


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_table_names_only_nodes_that_exist() -> None:
    for row in INTERFACES:
        for node in (*row.servers, *row.clients):
            assert node == "*" or node in NODE_TYPES, f"{row.key} names {node}"


def test_keys_and_names_of_the_table_are_unique() -> None:
    assert len({row.key for row in INTERFACES}) == len(INTERFACES)
    assert len({row.name for row in INTERFACES}) == len(INTERFACES)
