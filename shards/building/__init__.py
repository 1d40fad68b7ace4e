"""The steps of a build; `shards/build.py` puts them in order.

`build_plan.py` checks a request against its source, `exclude.py` reads the list of images to leave
out, and `provenance.py` computes checksums of the source. `convert.py` makes the stored images,
asks DALI whether it can decode them (`dali_check.py`), and counts good and bad images (`tally.py`).
`workplace.py` keeps finished shards and publishes the complete set. `existing.py` compares a set
that exists already with a request.
"""
