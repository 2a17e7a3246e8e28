"""Training of the shipped detectors. Needs `requirements.txt`; the product never imports this."""

from __future__ import annotations

import sys
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[2]

# `python -m models.training.train` works from a checkout that is not installed.
if str(REPO_ROOT / "src") not in sys.path:
    sys.path.insert(0, str(REPO_ROOT / "src"))
