"""Plans out of a journal that a scheduler may be writing right now."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from shopfloor.scheduling.codec import from_json
from shopfloor.scheduling.floor import StoredPlan


def read_plan(path: Path, version: int = 0) -> tuple[StoredPlan, StoredPlan | None]:
    """A plan (0: the one in force) and the plan it was made from.

    Raises KeyError where the journal has no such plan, OSError where it is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no journal {path}")
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        wanted = version or int(_item(db, "number", "in_force") or 0)
        plan = _plan(db, wanted)
        if plan is None:
            raise KeyError(f"{path} has no plan {wanted or 'in force'}")
        return plan, _plan(db, plan.base_version)
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error


def _item(db: sqlite3.Connection, kind: str, name: str) -> str | None:
    row = db.execute("SELECT content FROM item WHERE kind = ? AND id = ?", (kind, name)).fetchone()
    return None if row is None else str(row[0])


def _plan(db: sqlite3.Connection, version: int) -> StoredPlan | None:
    content = _item(db, "plan", str(version))
    return None if content is None else from_json(StoredPlan, content)
