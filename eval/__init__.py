"""Scoring: how out-of-distribution (OOD) is an image, and how well does the score tell?

Start with `score.py`, the command line; it tells the story in order and every step is one file:

    config.py    the command's options
    sets.py      opens the shard sets and refuses leakage (a set that meets itself)
    embed.py     images -> features [N, d] of the teacher's backbone (or raw pixels)
    scorer.py    features and the bank of in-distribution features -> scores [N] (paper, Eq. 6)
    metrics.py   scores -> AUROC; the sign convention stands there
    results.py   everything that is known about one scoring, as plain containers, and the CSV files
    table.py     results -> table.md and the terminal
    figures.py   scores -> histogram.png
    publish.py   puts a complete output folder in place, or nothing

One convention holds everywhere: a higher score is more OOD, and OOD is the positive class.
This package reads shard sets and checkpoints; it never trains and nothing imports it.
"""
