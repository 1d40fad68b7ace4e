"""The view engine `dali`: DALI graphs for images of any size, for training and for evaluation.

`engine.py` runs the training graph step by step. `inputs.py` feeds the graph with images and drawn
parameters (`params.py`). `train_pipe.py` is the graph of a step, and `augment.py` and `colour.py`
have its operations. `eval_pipe.py` and `eval_matrix.py` resize the images of an evaluation.
`version.py` returns DALI's version.
"""
