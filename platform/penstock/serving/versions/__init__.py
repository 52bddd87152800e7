"""Versions in motion: which one answers what, when another takes its place, and when it must not."""
