"""The processing of one image, from the content of its file to the pixels that a set stores.

`limits.py` refuses huge files before they are read. `decode.py` decodes a file. `levels.py`
converts a picture of any kind to 8 bits and sRGB. `resize.py` converts it to the channels and the
size of a set. `target.py` describes the form in which a set stores its images, and `fitted.py`
converts an image to this form. `jpeg.py` removes the metadata from a JPEG file that is stored
without being decoded. `sheet.py` draws images side by side.

The message of a `BadImage` is written to rejects.jsonl. So if its words change, a set that is built
again gets another digest.
"""
