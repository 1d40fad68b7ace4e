"""Benchmarks: the speed of this project as ratios to other ways to do the same work.

A peer is one way to do the work: ours, another library's, or a part of the work. `loader.py`,
`step.py`, `scorer.py`, `shards.py` and `detector.py` are commands (`python -m benchmarks.loader`).
Each command times all its peers in one process, round after round (`rounds.py`). It prints a table
or a line for each round, and at the end one line of JSON. `board.py` compares what detectors see,
not their speed. `gpu_check.py` checks, on a GPU, what only a GPU can show. The options of the
commands are in `options.py`, which imports nothing heavy. A command parses its options first. Then
it imports the files that measure, whose names begin with its own name.
"""
