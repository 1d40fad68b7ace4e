"""Features -> scores, float64 [N]. A higher score means more OOD.

`all_scores.py` computes every score of a network. `cosine.py` has Eq. 6 of the paper, the maximum
cosine and k-NN, which are computed in tiles of cosines (`tiles.py`). `mahalanobis.py` has the score
of SSD. `prototypes.py` has the entropy and the energy of the teacher's head. `neighbours.py` finds
the images of the bank that are nearest to an image.
"""
