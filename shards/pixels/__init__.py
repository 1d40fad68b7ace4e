"""One image: from what a file holds to the pixels of a set.

`limits.py` reads a file without reading a huge one, `decode.py` decodes, `levels.py` brings any
picture to 8 bits of sRGB, `resize.py` to the channels and the size of a set, whose form is in
`target.py`; `jpeg.py` strips a JPEG file that is kept as it is.
"""
