"""Scores of single images -> p-values, and decisions with a chosen rate of false alarms.

`images.py` reads image files as the shards have them, `conformal.py` calibrates on in-distribution
images alone, and `verdicts.py` decides for each file and tells so.
"""
