"""The two backends measured in turns in one run, and the page written of it. `scripts/bench.py` is the command."""
