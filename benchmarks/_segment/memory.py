"""Memory of this process, bytes."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

MIB = 2**20


def forget_peak() -> int:
    """Begin a new peak; what the process holds now.

    Where the kernel cannot forget a peak, it is the peak so far: what comes after is then the least that was
    needed above it.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak()


def peak() -> int:
    """Most resident memory since the peak was forgotten, or since the process began."""
    # not getrusage first: its peak survives exec, so a child begins with that of its parent
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
