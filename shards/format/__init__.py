"""The files of a shard set, byte by byte, except the manifest (`shards/manifest.py`).

`tar.py` and `writer.py` make the tars, `index.py` the index that DALI reads, `json_lines.py` the
lists of names and of rejected images, `source_sizes.py` the sizes of images before resizing.
"""
