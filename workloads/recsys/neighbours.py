"""Rating from the neighbours of an item in the user's own history: the default model.

    rating = mean + user bias + item bias + sum over heads (weighted mean of residuals) + correction

An asked item looks at every item the user has rated. Each head weighs them by kernels that are learned:
same genres, near in year, rated at nearly the same time, watched by the same people (the implicit feedback,
as vectors). It takes the weighted mean of what the ratings are above their biases, drawn towards 0 by a
weight of its own. The shape is the neighbourhood model of Koren (2008, "Factorization meets the
neighborhood", eq. 9 to 16) with weights from features in place of one per pair of items. A user is nothing
but the history, so a new one needs no training. In training each rating is predicted from all others: a
rating's own part is taken out of both biases.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from workloads.recsys.catalogue import ITEM_SHRINK, USER_SHRINK, Catalogue
from workloads.recsys.config import Net
from workloads.recsys.histories import Past

Indices = NDArray[np.int64]

FACTS = 10  # numbers about user and item that the correction sees, beside the heads and the genres
KERNELS = 4  # ways of being near
STEEPEST = 8.0  # a weight is at most exp of this
POPULAR = 0.4  # how much popularity counts in the ranking; 0.2 to 0.8 do about as well on MovieTweetings


class Pairs(NamedTuple):
    """Asked items, each with ratings of its user."""

    left: Tensor  # int64 [P], place among the asked, ascending
    right: Tensor  # int64 [P], place in the past
    near: Tensor  # float32 [P, KERNELS]


class LeftOut(NamedTuple):
    """A batch: every rating of the past is asked for, and paired with its user's others."""

    past: Past
    pairs: Pairs


class Kinship:
    """How near two watched items are, before anything is learned."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.traits, self.vectors = catalogue.traits, catalogue.vectors
        self.decades = catalogue.decades

    def of(
        self, one: Indices, one_day: NDArray[np.float32], other: Indices, other_day: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Cosine of genres, cosine of vectors, decades apart, time apart; float32 [n * m, KERNELS]."""
        near = np.empty((len(one), len(other), KERNELS), np.float32)
        near[..., 0] = self.traits[one] @ self.traits[other].T
        near[..., 1] = self.vectors[one] @ self.vectors[other].T
        near[..., 2] = np.abs(self.decades[one][:, None] - self.decades[other])
        near[..., 3] = np.log1p(20 * np.abs(one_day[:, None] - other_day)) / 3
        return near.reshape(-1, KERNELS)


class Neighbours(nn.Module):
    """Predicts ratings; ranks by how likely an item is to be watched, from the same item vectors."""

    count: Tensor
    total: Tensor
    traits: Tensor
    decades: Tensor
    vectors: Tensor
    own_bias: Tensor

    def __init__(self, net: Net, catalogue: Catalogue) -> None:
        super().__init__()
        heads, genres = net.heads, catalogue.traits.shape[1]
        for name in ("count", "total", "traits", "decades", "vectors"):
            self.register_buffer(name, torch.from_numpy(getattr(catalogue, name).copy()), persistent=False)
        self.register_buffer("own_bias", torch.from_numpy(catalogue.user_bias.copy()), persistent=False)
        self.mean = catalogue.mean
        self.kinship = Kinship(catalogue)
        self.genre = nn.Parameter(torch.linspace(0, 2, heads))
        self.year = nn.Parameter(torch.linspace(0, 1, heads).flip(0))
        self.time = nn.Parameter(torch.linspace(-2, 3, heads))
        self.company = nn.Parameter(torch.linspace(0, 3, heads).roll(heads // 2))
        self.offset = nn.Parameter(torch.zeros(heads))
        self.caution = nn.Parameter(torch.ones(heads))
        self.share = nn.Parameter(torch.full((heads,), 0.1))
        self.item_shrink = nn.Parameter(torch.tensor(ITEM_SHRINK).log())
        self.user_shrink = nn.Parameter(torch.tensor(USER_SHRINK).log())
        last = nn.Linear(net.hidden, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.correction = nn.Sequential(nn.Linear(heads + FACTS + genres, net.hidden), nn.GELU(), last)

    # ---------------------------------------------------------------- pairs

    def leave_out(self, past: Past) -> LeftOut:
        """Every rating of a batch with the others of its user."""
        lefts, rights, nears, start = [], [], [], 0
        items, days = past.item.numpy(), past.day.numpy()
        for size in past.size.tolist():
            own = slice(start, start + size)
            near = self.kinship.of(items[own], days[own], items[own], days[own])
            other = ~np.eye(size, dtype=bool).ravel()
            left, right = np.divmod(np.flatnonzero(other), max(size, 1))
            lefts.append(left + start)
            rights.append(right + start)
            nears.append(near[other])
            start += size
        none = np.empty((0, KERNELS), np.float32)
        left, right = (np.concatenate([np.empty(0, np.int64), *parts]) for parts in (lefts, rights))
        pairs = Pairs(*(torch.from_numpy(part) for part in (left, right, np.concatenate([none, *nears]))))
        return LeftOut(past, pairs)

    def all_pairs(self, past: Past, item: Tensor, day: Tensor) -> Pairs:
        """Every item with the whole history of the one user; in torch, as it becomes a graph (export.py)."""
        near = torch.stack(
            [
                self.traits[item] @ self.traits[past.item].T,
                self.vectors[item] @ self.vectors[past.item].T,
                (self.decades[item][:, None] - self.decades[past.item]).abs(),
                torch.log1p(20 * (day[:, None] - past.day).abs()) / 3,
            ],
            dim=2,
        )
        left, right = torch.ones_like(near[..., 0], dtype=torch.bool).nonzero().unbind(1)
        return Pairs(left, right, near.flatten(0, 1).to(past.rating.dtype))

    # ---------------------------------------------------------------- learning and answering

    def loss(self, batch: LeftOut) -> tuple[Tensor, float]:
        """Squared error of every rating predicted from the user's others."""
        past = batch.past
        # what a rating adds to the total of its item
        bias = F.pad(self.own_bias, (0, 1))[past.user][past.owner]
        total = self.total[past.item] - (past.rating - self.mean - bias)
        count = (self.count[past.item] - 1).clamp(min=0)
        found = self.rate_with(past, past.item, batch.pairs, total, count)
        return F.mse_loss(found, past.rating, reduction="sum"), len(past.rating)

    def rate(self, past: Past, item: Tensor, day: Tensor) -> Tensor:
        """Ratings [N]."""
        return self.rate_with(past, item, self.all_pairs(past, item, day), self.total[item], self.count[item])

    def rank(self, past: Past) -> Tensor:
        """Company of the watched items, and popularity: what will be watched is not what is rated best."""
        company: Tensor = self.vectors @ self.vectors[past.item].sum(0) / len(past.item) ** 0.5
        return company + POPULAR * torch.log1p(self.count)

    def rate_with(self, past: Past, item: Tensor, pairs: Pairs, total: Tensor, count: Tensor) -> Tensor:
        """`total`, `count`: those of the asked items, [N]."""
        left, right, asked = pairs.left, pairs.right, len(item)
        shrink = self.item_shrink.exp()

        def per_ask(values: Tensor) -> Tensor:
            """Sums over the pairs of each asked item."""
            return values.new_zeros((asked, *values.shape[1:])).index_add(0, left, values)

        item_bias = total / (count + shrink)
        of_past = self.total[past.item] / (self.count[past.item] + shrink)
        above = past.rating - self.mean - of_past
        known = per_ask(torch.ones_like(above[right]))
        user_bias = per_ask(above[right]) / (known + self.user_shrink.exp())
        residual = above[right] - user_bias[left]
        weight = self.weights(pairs.near)
        heads = per_ask(weight * residual[:, None]) / (per_ask(weight) + self.caution.exp())
        many = known.clamp(min=1)
        decade = self.decades[item]
        facts = torch.stack(
            [
                user_bias,
                item_bias,
                torch.log1p(known) - 3,
                torch.log1p(count) - 3,
                (per_ask(residual.square()) / many + 1e-6).sqrt() - 1,
                per_ask(of_past[right]) / many,
                per_ask(self.decades[past.item][right]) / many,
                decade,
                per_ask((residual < -1.5).to(above.dtype)) / many,
                item_bias * user_bias,
            ],
            dim=1,
        )
        seen = torch.cat([heads, facts, self.traits[item]], 1)
        corrected: Tensor = (
            self.mean + user_bias + item_bias + heads @ self.share + self.correction(seen).squeeze(1)
        )
        return corrected

    def weights(self, near: Tensor) -> Tensor:
        """How much each pair counts, [P, heads]."""
        slopes = torch.stack([self.genre, self.company, -F.softplus(self.year), -F.softplus(self.time)])
        return (near @ slopes + self.offset).clamp(max=STEEPEST).exp()
