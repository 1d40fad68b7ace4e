"""Code that all commands share: options, messages, progress, and the environment of the process.

`cli.py` parses a command line and ends the process. `mistakes.py` describes a wrong option in one
line. `environment.py` reads environment variables and counts CPUs. `printing.py` prints without
errors, even to a closed stream or to a terminal that cannot show all characters. `console.py` makes
Rich's console for tables, and `progress.py` shows the progress of a job.
"""
