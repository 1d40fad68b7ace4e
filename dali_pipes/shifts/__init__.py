"""The shifting transformations R, which turn a view into a negative view (paper, section 4.1).

`shift.py` defines what a transformation consists of, and `table.py` lists all transformations by
name. Each other file holds one family: `rotations.py`, `permutations.py` and `strong_blur.py`.

To add a transformation, write its functions in a file of this folder, and add one entry to `SHIFTS`
in `table.py`. Its name can then be used as a term of the option `negatives`, for in-distribution
and for auxiliary images.
"""
