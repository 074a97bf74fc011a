"""Why does a run not learn? Checks before the first step, a watch during the run, rules over what was seen.

Imports training's models, its plan and its history.
"""

__all__: list[str] = []
