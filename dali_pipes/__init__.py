"""Shard sets -> the views of a training step, or the images of an evaluation, on the device.

Read in this order: `batch.py` (the contract: what a step gets), `draws.py` (every random parameter,
a pure function of seed and step), `negatives.py` and `shifts.py` (the strategies, and what they
shift images by), `plan.py` (what a step is made of) and `readers.py` (where its images come from).
Then the two engines, which make the same views of it: `product.py` with `operators.py` and
`jitter.py`, matrix products for small images; and `train_pipe.py` with `augment.py` and
`colour.py`, a DALI graph for images of any size. `loader.py` is what the trainer sees,
`eval_loader.py` what the scorer does. `reference.py` is the oracle of both engines and `parity.py`
the comparison. Importing the package needs no DALI.
"""
