"""Reports of a run.

`meters.py` writes metrics.jsonl, TensorBoard files and the progress line, `curves.py` draws the
metrics, and `run_notes.py` writes the README of the run's folder. Before a run, `dry_run.py`
estimates its cost and `set_sizes.py` warns of sets that are too small to learn from.
"""
