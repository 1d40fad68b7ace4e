"""Images in any official archive or folder -> WebDataset tars, an index and a manifest.

Read `manifest.py` first: it holds the contract of a shard set, which everything else in the project
relies on. `build.py` makes a set of a request (`building/`) and a source (`sources/`), `sets.py`
the sets of a named protocol (`protocols.py`); `verify.py` checks a set, `reader.py` reads samples
by id and `order.py` says which ids a training step gets. `pixels/` knows images, `format/` files,
`similarity/` images that are equal or similar, `terminal/` command lines. Nothing here needs torch;
DALI is asked only whether it can decode the images of encoded sets (`building/dali_check.py`).
"""
