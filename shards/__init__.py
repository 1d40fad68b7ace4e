"""Images in any official archive or folder -> WebDataset tars, an index and a manifest.

Read `manifest.py` first: it holds the contract of a shard set, which everything else in the project
relies on. `build.py` makes a set, `verify.py` checks one, `reader.py` reads samples by id and
`order.py` says which ids a training step gets. Nothing here needs torch or DALI.
"""
