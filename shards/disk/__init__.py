"""Files and folders, handled so that a failure at any moment leaves no half-written output.

`publish.py` gives a file or a folder its final name only when its whole content is on the disk.
`locks.py` keeps other processes out of a folder. `file_system.py` tolerates file systems without
locks or syncing, and puts file names into errors. `reading.py` lists and reads files, and computes
their digests.
"""
