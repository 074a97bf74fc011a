"""Logs, metrics, traces, and this process's part of the drift test.

Imports index.
"""

__all__: list[str] = []
