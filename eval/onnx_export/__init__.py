"""Network, bank and threshold in one ONNX file.

`config.py` holds the options of the command `eval/export.py`, `graph.py` the operators from uint8
pixels to a score, and `bank_compression.py` replaces the bank by fewer rows.
"""
