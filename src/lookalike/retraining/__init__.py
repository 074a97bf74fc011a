"""Retraining: plan, train, judge and promote a new version of the champion; a killed job can be resumed.

Imports every floor. The command line calls it.
"""

__all__: list[str] = []
