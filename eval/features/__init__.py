"""Images -> features, float32 [N, d]: one row per image, in the order of the ids.

`networks.py` lists the networks that compute features: the teacher of a run, the same network
before training, raw pixels, networks of timm. `embed.py` runs a network over a set, during which
`full_float32.py` switches TF32 and bfloat16 off. `cache.py` stores the features in the run folder.
`checks.py` refuses features that cannot be scored. `image_features.py` has features that need no
network. `view_features.py` has a network from pixels to features as one module, and `in_memory.py`
images that are in no shard set.
"""
