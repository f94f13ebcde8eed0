"""Segmentation over overlapping windows: an absolute lattice, an exact blend, one block at a time."""
