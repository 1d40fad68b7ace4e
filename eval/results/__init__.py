"""The result of one scoring: data, tables and pictures, in a folder that is complete or absent.

`scoring.py` is the data (results.json) and `collect.py` makes it. `tables.py` lays it out beside
the numbers of the paper (`paper_tables.py`), and `table_formats.py` writes the tables. `figures.py`
draws. `output_folder.py` puts the folder in place. `comparison.py` compares several scorings, which
`compare_runs.py` reads and `compare_figures.py` draws.
"""
