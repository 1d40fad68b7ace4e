"""The steps of a build, of which `shards/build.py` tells the story.

`build_plan.py` checks a request against its source, `provenance.py` digests the source and
`exclude.py` reads what to leave out; `convert.py` makes stored images, asks DALI about them
(`dali_check.py`) and counts what became of them (`tally.py`); `workplace.py` keeps finished parts
and puts a complete set in place.
"""
