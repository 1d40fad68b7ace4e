"""Where samples come from: each published format is a function `(src, split) -> Source`.

A source lists its images when it is opened, and reads them one by one, from several threads at
once. `ImageFiles` (image_files.py) serves every format that is a collection of encoded images,
whatever they lie in (files.py); `Images` (arrays.py) every format that is an array of pixels.
`registry.py` names all; `source.py` is the contract.
"""
