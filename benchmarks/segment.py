"""xglof's tiled inference against its floor and its peers, on one machine in one run.

Without a mode, or with ``--peers``: one raster through the bare forward passes, through xglof from memory and
from COGs to Zarr, and through terratorch and MONAI, taking turns. ``--scale``: time and memory by the size of
the raster, its store opened without Dask or with it. ``--graph``: what the graph costs before anything runs::

    python benchmarks/segment.py --peers [--model terramind-tiny-demo] [--side 2048] [--repeats 5]
    python benchmarks/segment.py --scale [--source dask] [--model water-index] [--sides 2048 4096 8192 16384]
    python benchmarks/segment.py --graph [--blocks 100]

``--write docs/performance.md`` puts the tables there, in the place of those of earlier runs. MONAI and
terratorch come with ``pip install ".[benchmarks]"``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _segment.compare import compare
from _segment.graph import graph
from _segment.report import Section, tell
from _segment.scale import scale
from _segment.settings import Settings


def main() -> None:
    """Run the modes asked for, print their tables, and write them where that is wanted."""
    arguments = _parser().parse_args()
    tell(_sections(arguments), arguments.write)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", action="store_true", help="compare, with terratorch and MONAI")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD",
                        help="compare the floor with contenders that have a word in their title")  # fmt: skip
    parser.add_argument("--scale", action="store_true", help="time and memory by the size of the raster")
    parser.add_argument("--source", choices=("zarr", "dask"), default="zarr",
                        help="how --scale opens its store: without Dask, or with it, by blocks")  # fmt: skip
    parser.add_argument("--graph", action="store_true", help="what building the graph costs")
    parser.add_argument("--model", help="terramind-tiny-demo; for --scale water-index")
    parser.add_argument("--side", type=int, default=2048, help="of the raster of the comparison, pixels")
    parser.add_argument("--sides", type=int, nargs="+", default=[2048, 4096, 8192, 16384], help="of --scale")
    parser.add_argument("--blocks", type=int, default=100, help="along each side, of --graph")
    parser.add_argument("--chunks", type=int, help="side of a block, pixels: of the small ones (1008), or of "
                        "--scale (2016)")  # fmt: skip
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, help="windows a forward pass; the engine's own by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", type=Path, help="Markdown file to put the tables in")
    return parser


def _sections(arguments: argparse.Namespace) -> list[Section]:
    """The tables of the modes asked for; the comparison where none is."""
    sections = []
    if arguments.peers or not (arguments.scale or arguments.graph):
        settings = _settings(arguments, "terramind-tiny-demo", 1008)
        sections.append(
            compare(settings, peers=arguments.peers, repeats=arguments.repeats, only=arguments.only)
        )
    if arguments.scale:
        sections.append(scale(_settings(arguments, "water-index", 2016), arguments.sides, arguments.source))
    if arguments.graph:
        settings = _settings(arguments, "terramind-tiny-demo", 2016)
        sections.append(graph(settings, arguments.blocks, arguments.repeats))
    return sections


def _settings(arguments: argparse.Namespace, model: str, chunks: int) -> Settings:
    return Settings(
        model=arguments.model or model,
        side=arguments.side,
        overlap=arguments.overlap,
        device=arguments.device,
        batch=arguments.batch_size,
        chunks=arguments.chunks or chunks,
        folder=Path(),
    )


if __name__ == "__main__":
    main()
