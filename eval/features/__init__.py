"""Images -> features, float32 [N, d]: one row for each image, in the order of the ids.

`networks.py` lists the networks that make features (the teacher of a run, the same network before
training, raw pixels, networks of timm). `embed.py` runs a network over a set, and `full_float32.py`
keeps TF32 and bfloat16 out of it. `cache.py` stores the features beside the run. `checks.py`
refuses features that cannot be scored.
"""
