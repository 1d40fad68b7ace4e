"""The view engine `product`: views of small images as batched matrix products.

`engine.py` runs step by step; `views.py` makes the views of a step by the matrices of
`operators.py` (crop, resize, flip, blur) and the colours of `jitter.py`.
"""
