"""The options of `lookalike search` about hits of recordings that overlap."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lookalike.index.versions.distinct import Thinning
    from lookalike.training.artifact.row_encoder import RowEncoder

__all__ = ["ThinningOptions"]


@dataclass(frozen=True)
class ThinningOptions:
    """Which hits of windows of recordings are left out."""

    distinct: Annotated[
        bool | None,
        typer.Option(
            "--distinct/--no-distinct",
            help="Leave out a hit of a recording that overlaps a better hit. [default: for windows of recordings]",
        ),
    ] = None
    exclude: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="With --id, leave out hits of the item's own recording that are less than this far from it, as 30s, "
            "or in samples if the recordings have no times. [default: hits that overlap it]",
        ),
    ] = None

    def thinning(self, encoder: "RowEncoder", *, by_ids: bool) -> "Thinning | None":
        """Return the thinning of a search. Raises QueryError as `thinning_for` does."""
        from lookalike.index.versions.distinct import thinning_for

        is_number = self.exclude is not None and self.exclude.replace(".", "", 1).isdecimal()
        exclude = float(self.exclude) if self.exclude is not None and is_number else self.exclude
        return thinning_for(encoder, distinct=self.distinct, exclude=exclude, by_ids=by_ids)
