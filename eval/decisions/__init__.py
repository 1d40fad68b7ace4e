"""Scores of single images -> p-values, and decisions at a chosen false-positive rate.

`images.py` reads image files and makes the same pixels of them as a shard set would. `conformal.py`
computes p-values from the scores of the calibration set. `verdicts.py` decides for each image, and
writes the decisions as CSV and as a summary.
"""
