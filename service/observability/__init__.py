"""Logs, metrics, traces, and this process's part in the drift test.

Imports index.
"""

__all__: list[str] = []
