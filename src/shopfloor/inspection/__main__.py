"""`python -m shopfloor.inspection`; the work is in `shopfloor.inspection.cli`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from shopfloor.inspection.cli import main

    sys.exit(main())
