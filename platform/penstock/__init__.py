"""Penstock: distributed training and serving on Ray."""

__version__ = "0.1.0"
