"""What a run tells of itself.

`meters.py` writes metrics.jsonl, TensorBoard's files and the progress line, `curves.py` draws them,
`run_notes.py` writes the README of the run's folder, `dry_run.py` what a run would be, and
`set_sizes.py` warns of sets that are too small to learn from.
"""
