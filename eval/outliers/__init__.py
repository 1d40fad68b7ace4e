"""Synthetic outliers: normal images, each spoiled in one way that a detector should see.

`families.py` lists the ways, which are called families. `pieces.py`, `geometry.py` and `levels.py`
have their functions. `spoil.py` spoils a set of images by a family, and `contact_sheet.py` shows
the families on a few images.
"""
