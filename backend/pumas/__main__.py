"""`python -m pumas` is the `pumas` command; so is running this file by its path, which is how a client starts a sidecar
from the very package that it was imported from."""

import sys
from pathlib import Path

if not __package__:
    # Run by path, the first entry is this folder, whose modules must not pass for top-level ones.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pumas.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
