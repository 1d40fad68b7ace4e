"""Equal and similar images, within a set and between sets.

`shared.py` compares checksums and finds the equal images of several sets. `near_duplicates.py`
compares perceptual hashes and pixels and finds the similar images of two sets. `near_pairs.py`
keeps the closest pairs. `overlaps.py` compares every two of several sets and groups the pairs.
`equal.py` tells whether all images of a set are equal.
"""
