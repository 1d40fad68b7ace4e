"""Data sources, from which shard sets are built: official files, archives, folders and arrays.

`source.py` is the contract, and each published format is a function `(src, split) -> Source`.
A source lists its images when it is opened, and reads single images from several threads at once.
`ImageFiles` (`image_files.py`) is the source of every format that holds encoded images, in folders
or archives (`files.py`); `Images` (`arrays.py`) is the source of every format that is an array.
`formats.py` lists all formats, and `registry.py` opens them by name.
"""
