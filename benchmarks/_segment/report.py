"""The tables as Markdown, with what they were measured on; sections of other runs are kept."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_PREAMBLE = """\
# Performance

Written by the scripts in `benchmarks/` with `--write docs/performance.md`; nothing here is edited by
hand. Each section says the command that wrote it, its machine, versions and day: a run replaces the
sections that have its headings and keeps the others.
"""
_NO_CUDA = """
No CUDA device has been at hand: no figure of one is here yet;
`python benchmarks/segment.py --peers --device cuda --model terramind-large-random` measures it.
"""
_PACKAGES = ("xglof", "torch", "terratorch", "monai", "dask", "xarray", "zarr", "numpy")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, by which a later run finds it, and Markdown."""

    heading: str
    body: str


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tell(sections: Iterable[Section], path: Path | None) -> None:
    """Print the sections that this command measured, and merge them into the report at a path, if any."""
    words = ["python", f"benchmarks/{Path(sys.argv[0]).name}", *_without_write(sys.argv[1:])]
    told = [_with_facts(section, shlex.join(words)) for section in sections]
    for section in told:
        print(f"## {section.heading}\n\n{section.body}\n")
    if path is not None:
        write(path, told)


def _without_write(words: Sequence[str]) -> list[str]:
    """The command's arguments without the place that it writes to."""
    kept, skip = [], False
    for word in words:
        if not skip and not word.startswith("--write"):
            kept.append(word)
        skip = word == "--write"
    return kept


def _with_facts(section: Section, command: str) -> Section:
    """The section with its command, machine, versions and day in front."""
    facts = [f"- command: `{command}`", f"- machine: {_machine()}", f"- versions: {_versions()}"]
    facts.append(f"- day: {datetime.now(UTC):%Y-%m-%d}")
    return Section(section.heading, "\n".join(facts) + "\n\n" + section.body)


def merge(existing: str, sections: Iterable[Section]) -> str:
    """A report with these sections in the place of those with the same headings, and the others as they were.

    Parameters
    ----------
    existing
        The report so far; empty for none.
    sections
        New ones go to the end. Those of a GPU have CUDA in their heading: where there is none, the head of
        the report says so.
    """
    kept: dict[str, str] = {}
    for part in re.split(r"^## ", existing, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        kept[heading.strip()] = body.strip()
    kept |= {section.heading: section.body.strip() for section in sections}
    head = _PREAMBLE if any(re.search(r"\bCUDA\b", heading) for heading in kept) else _PREAMBLE + _NO_CUDA
    return head + "".join(f"\n## {heading}\n\n{body}\n" for heading, body in kept.items())


def write(path: Path, sections: Iterable[Section]) -> None:
    """Merge sections into the report at a path; it is replaced whole or not at all."""
    existing = path.read_text(encoding="utf-8") if path.exists() else ""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(merge(existing, sections), encoding="utf-8")
    aside.replace(path)


def _machine() -> str:
    import psutil
    import torch

    cores = len(os.sched_getaffinity(0))
    memory = psutil.virtual_memory().total / 2**30
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return f"{cores} cores of {_processor()}, {memory:.0f} GiB of memory, {', '.join(gpus) or 'no GPU'}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'an unnamed processor'} ({platform.machine()})"


def _versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} absent")
    return ", ".join(found)
