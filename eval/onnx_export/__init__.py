"""Export of a detector as one ONNX file: the network, the bank and the threshold.

`config.py` has the options of `eval/export.py`, and `detector_file.py` has its steps. `graph.py`
builds the ONNX graph from uint8 pixels to a score. `bank_compression.py` replaces the bank with a
smaller one.
"""
