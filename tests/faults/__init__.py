"""Fault drills: `python -m tests.faults` (`make reliability`), `--long` for the large counts.

A drill breaks something many times over (kills a build or a training, fills its disk, damages a
set, mutates images) and counts what came of it. Its oracle is independent of the code under test:
tarfile, hashlib, json, Pillow, webdataset, DALI's own reader, a run that was not disturbed.
`trial.py` is what a drill gets, `__main__.py` names all drills; one file each. `child.py` is the
process in which builds are made to fail, `trainer_child.py` that of trainings.
"""
