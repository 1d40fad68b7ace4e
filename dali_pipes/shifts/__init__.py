"""The shifting transformations R, which make a negative view of a view (paper, section 4.1).

`shift.py` says what a transformation consists of, and `table.py` lists all of them by name. Each
other file has one family: `rotations.py`, `permutations.py` and `strong_blur.py`.

To add a transformation: its functions in a file of this folder, and one entry in `SHIFTS` of
`table.py`. Its name is then a term of `negatives`, for both streams of images.
"""
