"""What else is known before a score is believed.

`sample_sizes.py` says what so many images can tell, `shortcuts.py` how well trivial statistics of
the images (`image_statistics.py`) tell the sets apart, and `headline_probes.py` what the features
of the headline's network hold: classes (`probes.py`), neighbours, occupied prototypes.
"""
