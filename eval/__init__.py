"""Scoring: how out-of-distribution (OOD) is an image, and how well does the score tell?

Start with `score.py`, the command line, and `score_sets.py`, which tells the story in order. The
rooms, each of which imports only from those above it:

    metrics.py, intervals.py   scores -> AUROC, AUPR, FPR95; the sign convention stands there
    sets/         shard sets and feature files, and what they must not share
    features/     images -> features
    scores/       features -> scores
    decisions/    scores -> p-values and decisions on single images
    audits/       what else is known before a score is believed
    results/      one scoring as data, tables and pictures; several beside each other
    report/       all of it on one page
    onnx_export/  all of it in one ONNX file

`detector.py` scores one's own images in three lines of Python, `score_images.py` by command;
`exported.py` does so by an ONNX file, without torch, DALI or the trainer.

One convention holds everywhere: a higher score is more OOD, and OOD is the positive class.
This package reads shard sets and checkpoints; it never trains and nothing imports it.
"""
