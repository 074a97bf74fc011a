"""The command line: it composes the three floors and holds no logic of its own."""

__all__: list[str] = []
