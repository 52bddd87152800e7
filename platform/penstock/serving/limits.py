"""What the endpoint takes, holds and waits for: all of it finite."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Limits:
    """Limits of one endpoint. Media fields bring their own size (penstock.media)."""

    text_bytes: int = 64 * KIB  # of JSON, beside the media in it
    depth: int = 32  # of nested arrays and objects
    bodies_bytes: int = 256 * MIB  # of all the requests being read or answered at a time
    body_s: float = 10.0  # for a body to arrive
    deadline_s: float = 30.0  # for an answer, from the request's first line
    queue: int = 64  # requests waiting for a model; more are turned away
    batch: int = 16  # most requests answered together
    batch_wait_s: float = 0.002  # for a batch to fill; a busy model fills it while computing another
    rate: float = 1000.0  # requests a second of one client, for each gateway; a key may have its own
    retry_after_s: int = 1  # what clients turned away are told to wait
    stuck_s: float = 60.0  # a replica that computes one batch for so long is replaced


BODY_BYTES = 24 * MIB
"""Of any body, whatever the model: above 4/3 of the largest medium. What lies beyond is thrown away."""
HEAD_BYTES = 32 * KIB
"""Of all headers together. These three are fixed: they hold where no configuration reaches."""
URL_BYTES = 8 * KIB
"""Of path and query."""
