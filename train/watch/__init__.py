"""What watches over a run: stuck ranks, collapse, steps that are not finite, a request to stop.

`watchdog.py` tells of ranks that no longer move, `collapse.py` of a teacher that gives all images
the same answer, `nonfinite_report.py` keeps what led to a loss that is not finite, and
`stop_request.py` hears SIGTERM and SIGINT.
"""
