"""Files and folders on a disk that may fail at any moment.

`publish.py` gives a file or a folder its name once all of it is on the disk; `locks.py` keeps other
processes out of a folder; `file_system.py` passes over what a file system lacks and names the file
in errors; `reading.py` lists, reads and digests files.
"""
