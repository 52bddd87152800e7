"""Ratios against a named baseline, measured in the same run: `penstock bench data|train`."""

from penstock.benchmarks.data import data
from penstock.benchmarks.train import train

__all__ = ["data", "train"]
