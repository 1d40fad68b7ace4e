"""Features -> scores, float64 [N]; a higher one is more OOD.

`all_scores.py` computes every score of a network: `cosine.py` is Eq. 6 of the paper and what comes
of the same cosines, streamed over the bank by `tiles.py`; `neighbours.py` finds the nearest images
of the bank; `mahalanobis.py` is the score of SSD; `prototypes.py` reads the teacher's head.
"""
