"""The commands. Each one parses its arguments, calls one function of a floor, and prints the result.

Results go to standard output, progress to standard error.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.drift_command import drift
from lookalike.cli.encoders import export_encoder
from lookalike.cli.items import compact, export, import_
from lookalike.cli.keys import app as keys_app
from lookalike.cli.options import Data, Device, Number, Set, StoreOption, open_store, out, with_options
from lookalike.cli.reading_options import ReadingOptions
from lookalike.cli.retraining import prune, retrain, track
from lookalike.cli.search import search
from lookalike.cli.serve import Host, Keys, Port, TlsCert, TlsKey, Workers, serve_and_announce, settings_for
from lookalike.cli.training import doctor, explain, rates, settings, train
from lookalike.cli.why import why
from lookalike.index.ann.spec import Metric
from lookalike.training.choices import DeviceName

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(keys_app, name="keys")


@app.callback()
def lookalike() -> None:
    """Similarity search over your own data.

    The steps: train an autoencoder on rows, build a version from its encoder, promote the version, serve it.
    """


@app.command()
@with_options(ReadingOptions)
def demo(
    data: Data = "digits",
    store: Annotated[Path | None, typer.Option("--store", metavar="S", help="[default: stores/DATA]")] = None,
    host: Host = None,
    port: Port = None,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the version at the end.")] = True,
    set_: Set = None,
    *,
    options: ReadingOptions,
) -> None:
    """Run all steps on one data set, and serve the result.

    Trains a denoising autoencoder, compares it with PCA and the raw rows, and builds, promotes and serves a version.
    For a built-in set, also a standard autoencoder.
    """
    from lookalike.cli.demo import run_demo
    from lookalike.service.server import check_start

    store = store or Path("stores") / Path(data).resolve().name.replace(":", "-")
    settings = settings_for(store, host=host, port=port) if serve else None
    if settings:  # refuse wrong settings before the training, not after it
        check_start(settings)
    query = run_demo(data, store, [*options.overrides(), *(set_ or [])], out)
    if settings:
        serve_and_announce(settings, out, query)


for command in (train, settings, rates, doctor, explain):
    app.command()(command)


@dataclass(frozen=True)
class BuildOptions:
    """The options of `lookalike build`."""

    metric: Annotated[
        Metric, typer.Option(help="The measure of similarity: cosine, Euclidean distance or inner product.")
    ] = "cosine"
    recall: Annotated[
        float, typer.Option(help="The least share of the 10 nearest items that a search finds, with 95 % confidence.")
    ] = 0.95
    memory: Annotated[
        str | None, typer.Option(metavar="BYTES", help="The maximum size of the index, as 64MB. [default: any]")
    ] = None
    latency_us: Annotated[
        float | None, typer.Option(help="The maximum microseconds of a search with one thread. [default: any]")
    ] = None
    index: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="A FAISS index_factory key, as HNSW32. [default: the fastest of several]"),
    ] = None
    previews: Annotated[
        bool, typer.Option("--previews/--no-previews", help="Keep a small picture of each photo, to show the items.")
    ] = True
    inputs: Annotated[
        bool,
        typer.Option("--inputs/--no-inputs", help="Store the items' inputs, which `lookalike why` needs."),
    ] = True
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="The column of lists, or the columns of numbers, that have the embeddings, if the encoder is none. "
            "[default: the only column of lists]",
        ),
    ] = None
    max_unreadable: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="The greatest share of photos that may be unreadable. [default: 1 %, or 5 photos]"
        ),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="data.KEY=VALUE",
            help="How DATA is read, if the encoder is none or an .onnx file; other encoders have their settings.",
        ),
    ] = None
    device: Device = "auto"


@app.command()
@with_options(BuildOptions)
def build(
    data: Data,
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            metavar="ENCODER",
            help="The folder of a run or of an encoder artifact; an .onnx file; or none if DATA has embeddings.",
        ),
    ],
    store: StoreOption,
    options: BuildOptions,
) -> None:
    """Embed DATA and build the fastest index that meets the target. Prints the number of the new version.

    The version's manifest contains the indexes that were tried and the reason for the choice. If the command is
    interrupted, run it again: it continues where it stopped.
    """
    from lookalike.cli.tables import tuning_line
    from lookalike.data import note_skipped
    from lookalike.encoders import NO_ENCODER, open_for_build
    from lookalike.index.ann.target import Target, read_bytes
    from lookalike.index.items.previews import expected_bytes
    from lookalike.index.versions.build import BuildExtras
    from lookalike.index.versions.build import build as build_version
    from lookalike.index.versions.stored_inputs import size_line
    from lookalike.training.config import load_config

    memory = None if options.memory is None else read_bytes(options.memory)
    target = Target(options.recall, memory, options.latency_us, options.index)
    reading = ReadingOptions(columns=options.columns, max_unreadable=options.max_unreadable)
    settings = load_config(None, [*reading.overrides(), *(options.set_ or [])]).data
    with open_for_build(data, encoder, options.metric, settings) as (rows, folder):
        if not options.previews:
            rows = replace(rows, read_with_previews=None)
        elif size := expected_bytes(rows):
            about = f"about {size / 1e6:,.1f} MB for {rows.count:,} items; --no-previews leaves them out"
            print(f"previews: {about}", file=sys.stderr)
        extras = BuildExtras(inputs=options.inputs and encoder != NO_ENCODER)
        if extras.inputs:
            print(size_line(rows), file=sys.stderr)
        number = build_version(
            rows, folder, open_store(store), metric=options.metric, target=target, device=options.device, extras=extras
        )
        note_skipped(rows, store)
    print(tuning_line(open_store(store).manifest(number)), file=sys.stderr)
    print(number)


@app.command()
def versions(store: StoreOption) -> None:
    """List the versions of a store with their evidence. The champion is the version that serves."""
    from lookalike.cli.tables import versions_table

    out.print(versions_table(open_store(store)))


@app.command()
def promote(number: Number, store: StoreOption) -> None:
    """Verify a version and make it the champion."""
    out.print(f"champion: version {open_store(store).promote(number).version}")


@app.command()
def rollback(store: StoreOption) -> None:
    """Promote the version that the champion replaced."""
    out.print(f"champion: version {open_store(store).rollback().version}")


@app.command()
def evaluate(
    number: Number,
    store: StoreOption,
    queries: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Query rows, for example digits:test. [default: items of the version]"),
    ] = None,
    device: Device = "auto",
) -> None:
    """Measure the quality and the speed of a version.

    Prints recall and latency; if there are labels, also precision; with --queries, also label probes. Measures the
    version alone, without the items that were put and deleted since.
    """
    from lookalike.cli.tables import evaluation_table
    from lookalike.data import open_inputs
    from lookalike.index.evaluation.evaluate import evaluate as evaluate_version

    version = open_store(store).open(number, device)
    if queries is None:
        out.print(evaluation_table(version, evaluate_version(version)))
        return
    from lookalike.label_probe import probe_version

    rows = open_inputs(queries, version.encoder.inputs)
    out.print(evaluation_table(version, evaluate_version(version, rows), probe_version(version, rows)))


@app.command()
def embed(
    data: Data,
    store: StoreOption,
    to: Annotated[Path, typer.Option("--out", metavar="E.npy", help="The file to write, float32 (rows, latent_dim).")],
    device: Device = "auto",
) -> None:
    """Embed DATA with the champion's encoder. The numbers equal those of POST /embed."""
    from lookalike.data import open_inputs
    from lookalike.index.versions.embed import embed_to_npy

    version = open_store(store).open_champion(device)
    version.check_embeds()
    embed_to_npy(open_inputs(data, version.encoder.inputs), version.encoder, version.metric, to)


for asking in (search, why):
    app.command()(asking)


@app.command()
def duplicates(
    store: StoreOption,
    threshold: Annotated[
        str,
        typer.Option(
            help="auto, or the least cosine similarity; for the other metrics, the greatest Euclidean distance."
        ),
    ] = "auto",
) -> None:
    """List groups of current items that are nearly the same.

    Prints one JSON object for each group, the largest group first.
    """
    from lookalike.index.changes.collection import open_collection
    from lookalike.index.changes.duplicates import near_duplicates
    from lookalike.index.errors import QueryError

    try:
        value = None if threshold == "auto" else float(threshold)
    except ValueError:
        raise QueryError("--threshold", expected="auto or a number", found=repr(threshold)) from None
    found = near_duplicates(open_collection(open_store(store), open_store(store).champion_number()), value)
    for group in found.groups:
        print(json.dumps({"ids": group.ids, "scores": group.scores}))
    items = sum(len(group.ids) for group in found.groups)
    print(f"{len(found.groups):,} groups of {items:,} items, threshold {found.threshold:.6g}", file=sys.stderr)


app.command("import")(import_)
for item_or_version in (export, compact, drift, retrain, prune, track):
    app.command()(item_or_version)
app.command("export-encoder")(export_encoder)


@dataclass(frozen=True)
class ServeOptions:
    """The options of `lookalike serve`."""

    host: Host = None
    port: Port = None
    keys: Keys = None
    tls_cert: TlsCert = None
    tls_key: TlsKey = None
    workers: Workers = None
    device: Annotated[DeviceName | None, typer.Option(help="The device of the encoder. [default: auto]")] = None


@app.command()
@with_options(ServeOptions)
def serve(store: StoreOption, options: ServeOptions) -> None:
    """Serve the champion over HTTP until SIGTERM or Ctrl-C.

    Follows promote and rollback while it runs. Further settings are LOOKALIKE_... variables in the environment.
    """
    serve_and_announce(settings_for(store, **asdict(options)), out)
