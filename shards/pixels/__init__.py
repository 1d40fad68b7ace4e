"""One image: the way from the content of a file to the pixels of a set.

`limits.py` refuses huge files before they are read, `decode.py` decodes, `levels.py` converts any
picture to 8 bits of sRGB, and `resize.py` converts it to the channels and the size of a set.
`target.py` describes the form in which a set stores its images, and `fitted.py` brings an image to
it. `jpeg.py` strips the metadata of a JPEG file that is stored without decoding it. `sheet.py`
draws images side by side.

The message of a `BadImage` is written to rejects.jsonl, so a change of its words changes the digest
of sets that are built again.
"""
