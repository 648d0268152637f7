"""Starts `tests/compare`; `scripts/compare-backends.sh` is the command for people."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "backend"), str(ROOT / "tests")]

from compare.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
