"""Synthetic outliers: normal images that are spoiled in one way, which a detector should notice.

`families.py` has the ways. `spoil.py` applies one to many images. They need neither torch nor DALI.
"""
