"""The comparison of both view engines with Pillow and torchvision: `python -m dali_pipes.parity`.

`reference.py` is a slow reference that makes the same views with Pillow and torchvision.
`compare.py` compares the views of the engines (`engines.py`) and of the shifts (`shifters.py`) with
the reference, on the images of `photographs.py`. `differences.py` has the limits.
`distributions.py` compares the drawn parameters with torchvision's.
"""
