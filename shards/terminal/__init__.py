"""What all commands share: options, messages, progress, and what the machine tells a process.

`cli.py` parses a command line and ends the process as a command should end, `mistakes.py` says in
one line what is wrong with an option, `environment.py` reads variables and counts CPUs;
`printing.py` writes to terminals that lack characters or that go away, `console.py` prints tables
and `progress.py` progress.
"""
