"""The sets of a scoring: the bank, the in-distribution test set and the OOD sets.

`opening.py` opens shard sets and names them. `feature_file.py` reads files of features that were
made elsewhere. `leakage.py` refuses sets that share images with each other or with the training set
of the run.
"""
