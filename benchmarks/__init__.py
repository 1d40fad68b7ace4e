"""Timings, as ratios of peers in one run. Each prints a table and, last, one line of JSON."""
