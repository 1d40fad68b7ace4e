"""Audits: facts that must be known before a score is believed.

`sample_sizes.py` tells how much a number of images can show. `shortcuts.py` measures how well
trivial statistics of the images (`image_statistics.py`) tell the sets apart. `headline_probes.py`
examines the features of the headline's network: classes (`probes.py`), neighbours, and occupied
prototypes.
"""
