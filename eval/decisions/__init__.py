"""Scores of single images -> p-values, and decisions at a chosen false-positive rate.

`images.py` reads image files and turns them into the same pixels that a shard set would hold.
`conformal.py` computes p-values from the scores of the calibration set. `verdicts.py` decides for
each image whether it is OOD, and writes the decisions as CSV and as a summary.
"""
