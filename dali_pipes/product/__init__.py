"""The view engine `product`: views of small images by batched matrix products.

`engine.py` runs it step by step. `views.py` makes the views of a step, with the matrices of
`operators.py` (resize and blur) and the colours of `jitter.py`.
"""
