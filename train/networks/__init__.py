"""The networks of student and teacher.

`model.py` joins a backbone (`backbone.py`: a ViT, or any network of timm) and a projection head
(`head.py`) and runs all views through them. `vit.py` has the forward pass of plain ViTs and
`dino_vit.py` DINO's position grid; `pretrained.py` reads weights that were trained elsewhere.
`batch_norm.py` and `stochastic_depth.py` handle these layers in training, and `onednn.py` makes
float32 products faster on CPUs.
"""
