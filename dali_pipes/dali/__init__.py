"""The view engine `dali`: a DALI graph for images of any size, and the one of an evaluation.

`engine.py` runs the graph step by step, `inputs.py` feeds it with images and drawn parameters
(`params.py`), `train_pipe.py` is the graph of a step, `augment.py` and `colour.py` its operations;
`eval_pipe.py` and `eval_matrix.py` resize the images of an evaluation. No other room names DALI.
"""
