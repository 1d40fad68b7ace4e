"""Equal and similar images, within a set and between sets.

`shared.py` finds equal ones between sets by digest, `near_duplicates.py` similar ones by their
perceptual hash, of which `near_pairs.py` keeps the closest; `equal.py` tells whether a set has
different images at all.
"""
