"""Code that all commands share: options, messages, progress, and the environment of the process.

`cli.py` parses a command line and ends the process, `mistakes.py` describes a wrong option in one
line, `environment.py` reads variables and counts CPUs. `printing.py` writes also to terminals that
lack characters or that are closed, `console.py` prints tables and `progress.py` shows progress.
"""
