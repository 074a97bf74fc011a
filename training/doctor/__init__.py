"""Diagnose why a run does not learn: checks before the first step, a watch during the run, rules over both.

Imports training's models, its plan and its history.
"""

__all__: list[str] = []
