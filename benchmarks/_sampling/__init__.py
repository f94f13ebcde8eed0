"""The parts of the benchmark of chips."""
