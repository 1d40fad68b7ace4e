"""Data sources, from which shard sets are built: official files, archives, folders and arrays.

`source.py` defines `Source`, the interface of all sources. Each published format has a function
`(src, split) -> Source`. A source lists its images when it is opened. Several threads may read
images from a source at the same time.

`image_files.py` has the source of all formats that hold encoded images in a folder or an archive.
`files.py`, `tars.py` and `archives.py` read such folders and archives. `arrays.py` has the source
of all formats that hold pixels in an array. `formats.py` lists all formats, and `registry.py` opens
a source by the name of its format.
"""
