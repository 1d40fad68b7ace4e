"""The sets of a scoring: bank, in-distribution test, OOD sets; as shards, or as a file of features.

`opening.py` opens shard sets and gives each its name, `feature_file.py` does so with features that
were made elsewhere, and `leakage.py` refuses sets that share images with each other or with what
the run was trained on.
"""
