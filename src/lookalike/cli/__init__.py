"""The command line: parse, call one function of a floor, print.

Imports every floor, most of it only when a command runs.
"""

__all__: list[str] = []
