"""The command `penstock`: verbs only, a thin shell over the Python API.

What is heavy (torch, Ray, matplotlib) is imported inside the verbs, so that help and errors in a
config come in well under a second.
"""

from penstock.cli import (  # each registers its verbs
    access,
    exporting,
    jobs,
    judging,
    keeping,
    making,
    running,
    searching,
)
from penstock.cli.shell import app, main

__all__ = [
    "access",
    "app",
    "exporting",
    "jobs",
    "judging",
    "keeping",
    "main",
    "making",
    "running",
    "searching",
]
