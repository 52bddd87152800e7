"""Two models with a table of users: embeddings in a dense network, biased factors with implicit feedback."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.recsys.catalogue import ITEM_SHRINK, USER_SHRINK, Catalogue
from workloads.recsys.config import Net
from workloads.recsys.histories import Past

DENSE = 64  # units


class Dense(nn.Module):
    """Embeddings of user and item side by side, a dense layer of 64, a rating; it learns ratings scaled to
    0..1. A user it has not seen is one with an embedding of zeros."""

    def __init__(self, net: Net, catalogue: Catalogue) -> None:
        super().__init__()
        self.users = int(catalogue.fields["users"])
        self.lowest = float(catalogue.fields["lowest"])
        self.range = max(float(catalogue.fields["highest"]) - self.lowest, 1e-6)
        self.user = nn.Embedding(self.users + 1, net.width, padding_idx=self.users)
        self.item = nn.Embedding(len(catalogue), net.width)
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.05)
        with torch.no_grad():
            self.user.weight[self.users] = 0
        self.head = nn.Sequential(nn.Linear(2 * net.width, DENSE), nn.ReLU(), nn.Linear(DENSE, 1))
        nn.init.constant_(self.head[-1].bias, (catalogue.mean - self.lowest) / self.range)  # type: ignore[arg-type]

    def scaled(self, past: Past, item: Tensor, owner: Tensor) -> Tensor:
        user = torch.where(past.user < 0, self.users, past.user)
        both = torch.cat([self.user(user)[owner], self.item(item)], 1)
        out: Tensor = self.head(both).squeeze(1)
        return out

    def loss(self, past: Past) -> tuple[Tensor, float]:
        wanted = (past.rating - self.lowest) / self.range
        found = self.scaled(past, past.item, past.owner)
        return F.mse_loss(found, wanted, reduction="sum"), len(wanted)

    def rate(self, past: Past, item: Tensor, day: Tensor) -> Tensor:
        return self.scaled(past, item, torch.zeros_like(item)) * self.range + self.lowest

    def rank(self, past: Past) -> Tensor:
        item = torch.arange(self.item.num_embeddings, device=past.item.device)
        return self.scaled(past, item, torch.zeros_like(item))


class Factors(nn.Module):
    """mean + user bias + item bias + item factors · (user factors + what the watched items say of the user).

    SVD++ (Koren 2008, eq. 15) with genres added to the item factors; a rating's own part is left out of the
    biases and of the implicit feedback it is predicted from.
    """

    count: Tensor
    total: Tensor
    traits: Tensor
    own_bias: Tensor

    def __init__(self, net: Net, catalogue: Catalogue) -> None:
        super().__init__()
        self.users = int(catalogue.fields["users"])
        self.mean = catalogue.mean
        for name in ("count", "total", "traits"):
            self.register_buffer(name, torch.from_numpy(getattr(catalogue, name).copy()), persistent=False)
        self.register_buffer("own_bias", torch.from_numpy(catalogue.user_bias.copy()), persistent=False)
        self.user = nn.Embedding(self.users + 1, net.width, padding_idx=self.users)
        self.item, self.watched = (nn.Embedding(len(catalogue), net.width) for _ in range(2))
        self.genre = nn.Linear(self.traits.shape[1], net.width, bias=False)
        self.fine = nn.Embedding(len(catalogue), 1)
        for table in (self.user, self.item, self.watched, self.genre):
            nn.init.normal_(table.weight, std=0.3 / net.width**0.5)
        with torch.no_grad():
            self.user.weight[self.users] = 0
        nn.init.zeros_(self.fine.weight)

    def loss(self, past: Past) -> tuple[Tensor, float]:
        bias = F.pad(self.own_bias, (0, 1))[past.user][past.owner]
        own = past.rating - self.mean - bias
        of_item = (self.total[past.item] - own) / ((self.count[past.item] - 1).clamp(min=0) + ITEM_SHRINK)
        found = self.rating(past, past.item, past.owner, of_item, own_too=True)
        return F.mse_loss(found, past.rating, reduction="sum"), len(past.rating)

    def rate(self, past: Past, item: Tensor, day: Tensor) -> Tensor:
        of_item = self.total[item] / (self.count[item] + ITEM_SHRINK)
        return self.rating(past, item, torch.zeros_like(item), of_item, own_too=False)

    def rank(self, past: Past) -> Tensor:
        item = torch.arange(len(self.count), device=past.item.device)
        return self.rate(past, item, item)

    def rating(self, past: Past, item: Tensor, owner: Tensor, of_item: Tensor, own_too: bool) -> Tensor:
        """Ratings [N]; `own_too`: the asked are the past itself, each predicted from the others."""
        users = len(past.size)
        above = past.rating - self.mean - self.total[past.item] / (self.count[past.item] + ITEM_SHRINK)
        said = self.watched(past.item)
        sums = above.new_zeros(users).index_add(0, past.owner, above)[owner]
        voices = said.new_zeros(users, said.shape[1]).index_add(0, past.owner, said)[owner]
        many = past.size[owner].to(above.dtype)
        if own_too:
            sums, voices, many = sums - above, voices - said, many - 1
        user = torch.where(past.user < 0, self.users, past.user)
        taste = self.user(user)[owner] + voices / many.clamp(min=1).sqrt()[:, None]
        factors = self.item(item) + self.genre(self.traits[item])
        biases: Tensor = self.mean + sums / (many + USER_SHRINK) + of_item + self.fine(item).squeeze(1)
        found: Tensor = biases + (factors * taste).sum(1)
        return found
