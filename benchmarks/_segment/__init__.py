"""Parts of ``benchmarks/segment.py``."""
