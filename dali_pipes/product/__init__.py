"""The view engine `product`: it makes views of small images with batched matrix products.

`engine.py` runs the engine step by step. `views.py` makes the views of a step. It uses the matrices
for resize and blur from `operators.py`, and the colour jitter from `jitter.py`.
"""
