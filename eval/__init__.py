"""Scoring: how out-of-distribution (OOD) is an image, and how well does the score tell?

Start with `score.py`, the command line, and `score_sets.py`, which tells the story in order; every
step is one file:

    config.py         the command's options
    sets.py           opens the shard sets and refuses a set that meets itself
    feature_file.py   features that were made elsewhere, with shard sets or alone
    contents.py       finds and refuses what sets share, and what was trained on
    sample_sizes.py   tells, or refuses, numbers of images that say little, before the work
    networks.py       where features come from: a run's teacher, its start, pixels, timm, a file
    embed.py          images -> features [N, d], shared out among ranks
    exact.py          float32 that stays float32
    feature_cache.py  keeps them beside the run
    scores.py         features -> all scores of a network
      scorer.py         Eq. 6 of the paper, cosines and neighbours, streamed (arithmetic: tiles.py)
      feature_checks.py refuses features that no score can be made of
      mahalanobis.py    SSD's score
      prototypes.py     entropy, energy and occupied classes of the teacher's head
    metrics.py        scores -> AUROC, AUPR, FPR95; the sign convention stands there
      intervals.py      how sure they are
    details.py        what else features tell: probes.py, neighbours.py
    shortcuts.py      what trivial statistics tell of a set
      image_statistics.py  each of them
    results.py        everything that is known about one scoring, as plain containers
    versions.py       of what makes the numbers
    table.py          results -> tables, with the figures of paper.py; table_formats.py writes them
    figures.py        scores -> pictures
    compare.py        several runs beside each other (compare_runs.py, compare_figures.py)
    report.py         all of it on one page (report_*.py, report.html.jinja); report_findings.py
                      says what speaks against the headline
    publish.py        puts a complete output folder in place, or nothing

One's own images:

    own_images.py     `score.py --images`; verdicts.py decides and tells
    images.py         files -> pixels as the shards have them
    detector.py       the same in three lines of Python
    conformal.py      p-values and decisions by in-distribution images alone
    export.py         all of it in one ONNX file (export_config.py, onnx_graph.py, compress.py)
    exported.py       scores with such a file, without torch, DALI or the trainer

One convention holds everywhere: a higher score is more OOD, and OOD is the positive class.
This package reads shard sets and checkpoints; it never trains and nothing imports it.
"""
