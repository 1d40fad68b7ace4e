"""Scoring: how out-of-distribution (OOD) an image is, and how well the score separates data sets.

Start with `score.py`, which is the command line, and `score_sets.py`, which has the steps in order.
Each part in this list imports only from the parts above it:

    config.py                  options of the command line, and the three kinds of scoring
    metrics.py, intervals.py   scores -> AUROC, AUPR, FPR95; the sign convention
    sets/         shard sets and feature files, and checks that they share no images
    outliers/     normal images -> synthetic outliers
    features/     images -> features
    scores/       features -> scores
    ensemble/     many scores -> one score, weighted by synthetic outliers
    decisions/    scores -> p-values and decisions on single images
    audits/       checks before a score is trusted: sample sizes, shortcuts, probes
    results/      data, tables and figures of one scoring; comparisons of several scorings
    report/       HTML page about one scoring
    onnx_export/  a detector as one ONNX file

`detector.py` scores single images in three lines of Python. `score_images.py` does the same as a
command. `exported.py` scores images with an ONNX file, and needs neither torch, DALI nor the
trainer.

One convention holds everywhere: a higher score means more OOD, and OOD is the positive class. This
package reads shard sets and checkpoints. It never trains, and no other package imports it.
"""
