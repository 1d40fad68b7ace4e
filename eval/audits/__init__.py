"""Audits: facts to know before a score is trusted.

`sample_sizes.py` tells how precise a result can be with a given number of images. `shortcuts.py`
measures how well trivial statistics of the images (`image_statistics.py`) tell the sets apart.
`headline_probes.py` examines the features of the headline's network: how well they tell classes
apart (`probes.py`), and how many prototypes are occupied.
"""
