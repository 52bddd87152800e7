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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.recsys.catalogue import ITEM_SHRINK, USER_SHRINK, Catalogue
from workloads.recsys.config import Net
from workloads.recsys.histories import Ask, Past, ask_each

FACTS = 10  # numbers about user and item that the correction sees, beside the heads and the genres
STEEPEST = 8.0  # a weight is at most exp of this
POPULAR = 0.4  # how much popularity counts in the ranking; 0.2 to 0.8 do about as well on MovieTweetings


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

    def loss(self, past: Past) -> tuple[Tensor, float]:
        """Squared error of every rating predicted from the user's others."""
        # what a rating adds to the total of its item
        bias = F.pad(self.own_bias, (0, 1))[past.user][past.owner]
        own = past.rating - self.mean - bias
        shrink = self.item_shrink.exp()
        without = (self.total[past.item] - own) / ((self.count[past.item] - 1).clamp(min=0) + shrink)
        found = self.rate_with(past, ask_each(past), without)
        return F.mse_loss(found, past.rating, reduction="sum"), len(past.rating)

    def rate(self, past: Past, ask: Ask) -> Tensor:
        """Ratings [N]."""
        return self.rate_with(past, ask, self.item_bias(ask.item))

    def rank(self, past: Past) -> Tensor:
        """Company of the watched items, and popularity: what will be watched is not what is rated best."""
        company: Tensor = self.vectors @ self.vectors[past.item].sum(0) / len(past.item) ** 0.5
        return company + POPULAR * torch.log1p(self.count)

    def item_bias(self, item: Tensor) -> Tensor:
        bias: Tensor = self.total[item] / (self.count[item] + self.item_shrink.exp())
        return bias

    def rate_with(self, past: Past, ask: Ask, item_bias: Tensor) -> Tensor:
        left, right, asked = ask.left, ask.right, len(ask.item)

        def per_ask(values: Tensor) -> Tensor:
            """Sums over the pairs of each asked item."""
            return values.new_zeros((asked, *values.shape[1:])).index_add(0, left, values)

        of_past = self.item_bias(past.item)
        above = past.rating - self.mean - of_past
        known = per_ask(torch.ones_like(above[right]))
        user_bias = per_ask(above[right]) / (known + self.user_shrink.exp())
        residual = above[right] - user_bias[left]
        weight = self.weights(past, ask)
        heads = per_ask(weight * residual[:, None]) / (per_ask(weight) + self.caution.exp())
        many = known.clamp(min=1)
        decade = self.decades[ask.item]
        facts = torch.stack(
            [
                user_bias,
                item_bias,
                torch.log1p(known) - 3,
                torch.log1p(self.count[ask.item]) - 3,
                (per_ask(residual.square()) / many + 1e-6).sqrt() - 1,
                per_ask(of_past[right]) / many,
                per_ask(self.decades[past.item][right]) / many,
                decade,
                per_ask((residual < -1.5).to(above.dtype)) / many,
                item_bias * user_bias,
            ],
            dim=1,
        )
        seen = torch.cat([heads, facts, self.traits[ask.item]], 1)
        corrected: Tensor = (
            self.mean + user_bias + item_bias + heads @ self.share + self.correction(seen).squeeze(1)
        )
        return corrected

    def weights(self, past: Past, ask: Ask) -> Tensor:
        """How much each pair counts, [P, heads]."""
        one, other = ask.item[ask.left], past.item[ask.right]
        genre = (self.traits[one] * self.traits[other]).sum(1, keepdim=True)
        company = (self.vectors[one] * self.vectors[other]).sum(1, keepdim=True)
        years = (self.decades[one] - self.decades[other]).abs()[:, None]
        apart = torch.log1p(20 * (ask.day[ask.left] - past.day[ask.right]).abs())[:, None] / 3
        score = (
            self.genre * genre
            + self.company * company
            - F.softplus(self.year) * years
            - F.softplus(self.time) * apart
            + self.offset
        )
        return score.clamp(max=STEEPEST).exp()
