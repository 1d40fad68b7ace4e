"""Monitors of a run.

`watchdog.py` names a rank that is stuck, `collapse.py` finds a network that gives all images the
same response, `nonfinite_report.py` writes down which values are not finite when they end a run,
and `stop_request.py` handles signals that ask the run to stop.
"""
