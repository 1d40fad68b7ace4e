"""One scoring as data, tables and pictures, in a folder that is complete or not there.

`collect.py` gathers results.json, `output_folder.py` puts the folder in place, `tables.py` makes
tables of results beside the figures of `paper_tables.py`, `table_formats.py` writes them,
`figures.py` draws. `compare_runs.py` and `compare_figures.py` do so for several runs together.
"""
