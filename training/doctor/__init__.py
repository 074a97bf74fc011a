"""Why is it not learning? Checks before the first step, a watch during the run, and rules over what was seen."""

__all__: list[str] = []
