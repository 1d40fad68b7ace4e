"""The view engine `dali`: DALI graphs for images of any size, for training and for evaluation.

`engine.py` runs the training graph step by step. `inputs.py` feeds it with images and drawn
parameters (`params.py`). `train_pipe.py` is the graph of a step; `augment.py` and `colour.py` have
its operations. `eval_pipe.py` and `eval_matrix.py` resize the images of an evaluation, and
`version.py` tells DALI's version.
"""
