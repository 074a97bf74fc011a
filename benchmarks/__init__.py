"""One script per claim: each measures ours, the peer's and the floor in one run, and writes its figures."""

__all__: list[str] = []
