"""The ensemble: many scores, weighted by synthetic outliers, in place of one score that may fail.

`sources.py` says which features there are, and which scores are fitted on them. `members.py` fits
the scores. `weights.py` weighs them, and `ensemble.py` has the whole: members, moments and weights,
tuned without one real outlier. `sight.py` says in words what a detector sees. `of_sets.py` applies
an ensemble to shard sets.
"""
