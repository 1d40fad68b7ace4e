"""The comparison of both view engines with Pillow and torchvision: `python -m dali_pipes.parity`.

`reference.py` is the slow reference that makes the same views with Pillow. `compare.py` compares
the pixels of `engines.py` and `shifters.py` with it, on the images of `photographs.py`;
`differences.py` has the limits. `distributions.py` compares the drawn
parameters with torchvision's.
"""
