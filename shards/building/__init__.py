"""The steps of a build; `shards/build.py` puts them in order.

`build_plan.py` checks a request against its source, and `exclude.py` reads the list of images to
leave out. `source_files.py` describes the files of the source, with checksums (`provenance.py`).
`convert.py` makes the stored images, asks DALI whether it can decode them (`dali_check.py`), and
counts good and bad images (`tally.py`). `workplace.py` keeps finished shards and publishes the
complete set. `existing.py` compares a set that exists already with a request.
"""
