"""How far generated pictures are from real ones, in the judge's features.

Both distances are estimated from samples, and a plain estimate is too large by about c / n. That would make
a bootstrap's samples, which hold about 0.63 n different pictures, worse than the sample they come from, and
put the figure below its own interval. So every estimate here knows how often each picture was drawn
(`weight`), takes pictures drawn twice for one picture, and is corrected for its size to first order: figures
of samples of any size agree in the mean, and an interval holds its figure. A corrected distance can be
slightly negative when there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FEWEST = 3  # pictures that have a spread worth the name
SMALLEST = 1e-10  # eigenvalues below this share of the largest are none


@dataclass(frozen=True)
class Moments:
    """Mean [F] and covariance [F, F] of real features."""

    mean: Array
    covariance: Array

    @cached_property
    def root(self) -> Array:
        """The symmetric square root of the covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        return np.asarray((vectors * np.sqrt(values.clip(0))) @ vectors.T)


def moments(features: Array) -> Moments:
    """Of features [n, F]."""
    given = features.astype(np.float64)
    return Moments(given.mean(0), np.cov(given.T))


def frechet(mean: Array, covariance: Array, reference: Moments) -> float:
    """Between two Gaussians (Dowson and Landau 1982): |m - r|^2 + tr(S + R - 2 (S R)^(1/2))."""
    values = np.linalg.eigvalsh(reference.root @ covariance @ reference.root)
    gap = np.square(mean - reference.mean).sum()
    traces = np.trace(covariance) + np.trace(reference.covariance)
    return float(gap + traces - 2 * np.sqrt(values.clip(0)).sum())


def frechet_distance(features: Array, weight: Array, reference: Moments) -> float:
    """Of features [n, F], each drawn weight [n] times, to the reference; NaN below FEWEST pictures.

    The correction: the sample's mean is off by tr(S) / n in the square, and the trace of a square root,
    being concave, comes out too small by the second term of its expansion, in which the entries of the
    sample's covariance vary as the features' fourth moments say. n is the effective number of pictures,
    (sum w)^2 / sum w^2 (Kish).
    """
    if len(features) < FEWEST:
        return float("nan")
    total, squares = weight.sum(), np.square(weight).sum()
    size = total**2 / squares
    mean = weight @ features / total
    centred = features - mean
    covariance = (centred * weight[:, None]).T @ centred / (total - squares / total)
    values, vectors = np.linalg.eigh(reference.root @ covariance @ reference.root)
    plain = frechet(mean, covariance, reference)
    kept = values > SMALLEST * values[-1]
    values = values[kept]
    turned = np.square(centred @ (reference.root @ vectors[:, kept]))
    fourth = (turned * weight[:, None]).T @ turned / total
    fourth[np.diag_indices_from(fourth)] -= values**2
    roots = np.sqrt(values)
    bent = 0.5 * (fourth / (np.outer(roots, roots) * np.add.outer(roots, roots))).sum()
    return float(plain - (np.trace(covariance) + bent) / size)


def cubic(a: Array, b: Array) -> Array:
    """The polynomial kernel of KID (Binkowski et al. 2018): (a . b / F + 1)^3, [len(a), len(b)]."""
    product = a @ b.T / a.shape[1] + 1
    return np.asarray(product * product * product)


def inner_mean(features: Array, weight: Array) -> float:
    """Mean kernel between two different pictures of one sample."""
    kernel = cubic(features, features)
    square = np.square(weight)
    return float(
        (weight @ kernel @ weight - square @ np.diagonal(kernel)) / (weight.sum() ** 2 - square.sum())
    )


def kernel_distance(features: Array, weight: Array, across: Array, real_inner: float) -> float:
    """KID: the squared maximum mean discrepancy to real pictures, without bias. `across` [n]: the mean kernel
    of each picture with the real ones, whose own `inner_mean` is `real_inner`. NaN below FEWEST pictures."""
    if len(features) < FEWEST:
        return float("nan")
    return float(inner_mean(features, weight) + real_inner - 2 * weight @ across / weight.sum())
