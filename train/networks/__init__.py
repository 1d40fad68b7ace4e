"""The networks of student and teacher.

`model.py` puts a backbone (`backbone.py`: a ViT of `dino_vit.py`, or one of timm's) and a
projection head (`head.py`) together and runs all views through them (`vit.py` for plain ViTs);
`pretrained.py` reads weights that were trained elsewhere. `batch_norm.py` and `stochastic_depth.py`
are what training needs of them, `onednn.py` the faster float32 products on CPUs.
"""
