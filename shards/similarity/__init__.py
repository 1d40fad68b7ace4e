"""Equal and similar images, within a set and between sets.

`shared.py` finds equal images of several sets by digest. `near_duplicates.py` finds similar images
of two sets by a perceptual hash, `near_pairs.py` keeps the closest pairs, and `overlaps.py` puts
them into groups for every two of several sets. `equal.py` tells whether all images of a set are
equal.
"""
