"""The result of one scoring: data, tables and figures, in a folder that is complete or absent.

`scoring.py` defines the data (results.json), and `collect.py` computes the data. `tables.py`
arranges the data in tables next to the numbers of the paper (`paper_tables.py`), and
`table_formats.py` writes the tables with their notes (`notes.py`). `ensemble_facts.py` has the data
of the ensemble. `figures.py` draws figures. `output_folder.py` puts the output
folder in place. `comparison.py` compares several scorings: `compare_runs.py` reads them, and
`compare_figures.py` draws them.
"""
