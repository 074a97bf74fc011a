"""The command line. Each command parses its arguments, calls one function of a floor, and prints the result.

Imports every floor, mostly inside the command that needs it, so that `--help` is fast.
"""

__all__: list[str] = []
