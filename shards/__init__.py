"""Shard sets: images of an official archive or a folder as WebDataset tars, indexes and a manifest.

Read `manifest.py` first: it holds the contract of a shard set, on which the whole project relies.
`build.py` builds a set from a data source (`sources/`) and a request (`building/`), and `sets.py`
builds the sets of a named protocol (`protocols.py`). `verify.py` checks a set, `reader.py` reads
samples by id, `order.py` returns the ids of a training step, and `random_streams.py` keeps all
random draws of a run apart. `pixels/` converts images, `format/` reads and writes the files of a
set, `similarity/` finds equal and similar images, `terminal/` parses command lines and prints.

Nothing here needs torch. DALI is used only to check that it can decode the images of encoded sets
(`building/dali_check.py`).
"""
