"""Shard sets -> the views of a training step, or the images of an evaluation, on the device.

Read in this order: `batch.py` (the contract: what a step gets), `view_params.py` (every random
parameter, a pure function of seed and step), `negatives.py` and `shifts.py` (the strategies, and
what they shift images by), `step_plan.py` (what a step is made of) and `readers.py` (where its
images come from). Then the two engines, which make the same views of it: `product/`, matrix
products for small images, and `dali/`, a DALI graph for images of any size; DALI is fed by
`external_source` from our own reader, so that any order, and going on from any step, cost nothing.
`loader.py` is what the trainer sees, `eval_loader.py` what the scorer does. `parity/` compares both
engines with Pillow. Importing the package needs no DALI.
"""
