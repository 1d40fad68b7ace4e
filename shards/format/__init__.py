"""The formats of the files in a shard set, except the manifest (`shards/manifest.py`).

`tar.py` and `writer.py` write the tars. `index.py` writes and reads the index files that DALI
needs. `json_lines.py` writes and reads the lists of names and of rejected images. `source_sizes.py`
writes and reads the sizes that images had before they were resized.
"""
