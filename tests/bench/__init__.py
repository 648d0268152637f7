"""What `./launcher bench` runs: each `bench_*.py` module holds functions `bench_*(run) -> list[Row]`.

A benchmark compares with a baseline measured in the same run (`baselines/` holds the programs to compare with). Adding
one means writing one function; `scripts/bench.py` finds it by its name.
"""
