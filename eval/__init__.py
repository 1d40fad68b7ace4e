"""Scoring: how out-of-distribution (OOD) an image is, and how well the score separates data sets.

Start with `score.py`, the command line, and `score_sets.py`, which has the steps in order. Each of
these parts imports only from the parts above it:

    config.py                  options of the command line, and the three kinds of scoring
    metrics.py, intervals.py   scores -> AUROC, AUPR, FPR95; the sign convention
    sets/         shard sets and feature files, and checks that they share no images
    features/     images -> features
    scores/       features -> scores
    decisions/    scores -> p-values and decisions on single images
    audits/       checks before a score is trusted: sample sizes, shortcuts, probes
    results/      one scoring as data, tables and figures; comparisons of several
    report/       one scoring as an HTML page
    onnx_export/  a detector as one ONNX file

`detector.py` scores single images in three lines of Python, `score_images.py` by command.
`exported.py` scores images with an ONNX file, without torch, DALI or the trainer.

One convention holds everywhere: a higher score is more OOD, and OOD is the positive class.
This package reads shard sets and checkpoints; it never trains and nothing imports it.
"""
