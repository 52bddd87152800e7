"""Ratios against a named baseline, measured in the same run: `penstock bench data|train|serve`."""

from penstock.benchmarks.data import data
from penstock.benchmarks.serve import serve
from penstock.benchmarks.train import train

__all__ = ["data", "serve", "train"]
