"""Images -> features, float32 [N, d]: one row an image, in the order of the ids.

`networks.py` lists what makes them (a run's teacher, its untrained start, pixels, a timm network),
`embed.py` runs a network over a set, `full_float32.py` keeps float32 exact meanwhile, `cache.py`
stores the result beside the run, and `checks.py` refuses features that no score can be made of.
"""
