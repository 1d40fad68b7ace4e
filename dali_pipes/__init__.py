"""Shard sets -> the views of a training step, or the images of an evaluation, on the device.

Read in this order: `batch.py` (the contract: what a step gets), `draws.py` (every random parameter,
a pure function of seed and step), `augment.py` (what DALI does with them), `negatives.py` (the
shifting transformations and the strategies), `inputs.py` (what a graph is fed each step),
`train_pipe.py` and `eval_pipe.py` (the graphs), and `loader.py`, which the trainer and the scorer
see. Importing the package needs no DALI.
"""
