"""Features -> scores, float64 [N]. A higher score means more OOD.

`all_scores.py` computes every score of a network. `cosine.py` has Eq. 6 of the paper, the maximum
cosine and k-NN, which are computed in tiles of cosines (`tiles.py`). `mahalanobis.py` has the score
of SSD. `prototypes.py` has the entropy and the energy of the teacher's head. `neighbours.py` finds
the images of the bank that are nearest to an image.

`fitted.py` has the contract of scores that are torch modules, fitted on a bank: Eq. 6 (`eq6.py`),
nearest neighbours (`neighbour_scores.py`), covariances (`covariance_scores.py`), forest and density
(`forest_and_density.py`). The ensemble and ONNX files are made of them.
"""
