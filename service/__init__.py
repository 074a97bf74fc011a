"""Floor three: answer over HTTP, from one version."""

__all__: list[str] = []
