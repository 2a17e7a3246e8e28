"""`python -m shopfloor.replay`; the work is in `shopfloor.replay.cli`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from shopfloor.replay.cli import main

    sys.exit(main())
