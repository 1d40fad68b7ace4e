"""The comparison of both engines with Pillow and torchvision: `python -m dali_pipes.parity`.

`reference.py` is the oracle, `compare.py` compares pixels with it, `draws.py` the distributions of
the drawn parameters with torchvision's.
"""
