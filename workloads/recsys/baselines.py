"""What a model has to beat: biases, popularity, item neighbours by co-occurrence. Each trains and is
published like any other."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from penstock.errors import ConfigError
from penstock.workload import Schema
from workloads.recsys.catalogue import ITEM_SHRINK, USER_SHRINK, Catalogue, Histories
from workloads.recsys.config import MOST_ITEMS
from workloads.recsys.histories import Past

FAR = -1e9  # a score that no softmax sees


class Bias(nn.Module):
    """mean + user bias + item bias. The loss is that of shrunken biases, and they start at its minimum."""

    count: Tensor

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.mean = catalogue.mean
        self.register_buffer("count", torch.from_numpy(catalogue.count.copy()), persistent=False)
        self.user = nn.Parameter(torch.from_numpy(catalogue.user_bias.copy()))
        self.item = nn.Parameter(torch.from_numpy(catalogue.item_bias.copy()))

    def of_user(self, past: Past) -> Tensor:
        """Bias of each user; of one who was not trained on, from the past, [B]."""
        above = past.rating - self.mean - self.item[past.item]
        sums = above.new_zeros(len(past.size)).index_add(0, past.owner, above)
        return torch.where(
            past.user < 0, sums / (past.size + USER_SHRINK), F.pad(self.user, (0, 1))[past.user]
        )

    def loss(self, past: Past) -> tuple[Tensor, float]:
        user, item = self.user[past.user], self.item[past.item]
        errors = (past.rating - self.mean - user[past.owner] - item).square().sum()
        shrunken = (
            USER_SHRINK * user.square().sum() + ITEM_SHRINK * (item.square() / self.count[past.item]).sum()
        )
        return errors + shrunken, len(past.rating)

    def rate(self, past: Past, item: Tensor, day: Tensor) -> Tensor:
        return self.mean + self.of_user(past) + self.item[item]

    def rank(self, past: Past) -> Tensor:
        return self.item


class Shrunken:
    """Ratings of a model that only ranks: those of the shrunken biases."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.bias = Bias(catalogue).requires_grad_(False)

    def rate(self, past: Past, item: Tensor, day: Tensor) -> Tensor:
        here, there = self.bias.item, past.rating
        if (here.device, here.dtype) != (there.device, there.dtype):  # a graph (export.py) cannot move it
            self.bias.to(there.device, there.dtype)
        return self.bias.rate(past._replace(user=torch.full_like(past.user, -1)), item, day)


class Popularity(nn.Module):
    """The most watched items for everybody."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.from_numpy(np.log(catalogue.count + 0.5).astype(np.float32)))
        self.rating = Shrunken(catalogue)

    def loss(self, past: Past) -> tuple[Tensor, float]:
        return -self.logit.log_softmax(0)[past.item].sum(), len(past.item)

    def rate(self, past: Past, item: Tensor, day: Tensor) -> Tensor:
        return self.rating.rate(past, item, day)

    def rank(self, past: Past) -> Tensor:
        return self.logit


class ItemKnn(nn.Module):
    """Sum over the watched items of their likeness to an item: co-occurrences over powers of both counts,
    less for pairs that rarely stand together (Sarwar et al. 2001; Deshpande and Karypis 2004). Powers,
    shrinkage and sharpness are learned: from all others of a history, which item is the one left out?"""

    count: Tensor
    together: Tensor

    def __init__(self, catalogue: Catalogue, schema: Schema) -> None:
        super().__init__()
        if len(catalogue) > MOST_ITEMS:
            raise ConfigError(
                f"model.kind = 'itemknn': {len(catalogue)} items, and {MOST_ITEMS} at most are possible; "
                "use 'sasrec'"
            )
        self.register_buffer("together", torch.from_numpy(co_occurrences(schema, len(catalogue))), False)
        self.register_buffer("count", torch.from_numpy(catalogue.count.copy()), persistent=False)
        self.shrink = nn.Parameter(torch.tensor(5.0).log())
        self.power = nn.Parameter(torch.tensor([0.5, 0.5]))
        self.sharpness = nn.Parameter(torch.tensor(1.0))
        self.rating = Shrunken(catalogue)

    def likeness(self, item: Tensor, together: Tensor) -> Tensor:
        """Of each of `item` [n] to all items, [n, I]; `together`: their co-occurrences."""
        count = self.count.clamp(min=1)
        even = count[item, None] ** -self.power[0] * count ** -self.power[1]
        return together * even * together / (together + self.shrink.exp())

    def loss(self, past: Past) -> tuple[Tensor, float]:
        total, start = past.rating.new_zeros(()), 0
        for size in past.size.tolist():
            item = past.item[start : start + size]
            start += size
            if size < 2:
                continue
            together = self.together[item].to(past.rating.dtype)
            together[:, item] = (together[:, item] - 1).clamp(min=0)  # without this user
            likeness = self.likeness(item, together)
            score = (likeness.sum(0) - likeness) * self.sharpness.exp()
            # the other watched items cannot be the answer
            seen = torch.zeros_like(score, dtype=torch.bool)
            seen[:, item] = ~torch.eye(size, dtype=torch.bool, device=item.device)
            total = total + F.cross_entropy(score.masked_fill(seen, FAR), item, reduction="sum")
        return total + 0 * self.sharpness, float(past.size[past.size > 1].sum())

    def rate(self, past: Past, item: Tensor, day: Tensor) -> Tensor:
        return self.rating.rate(past, item, day)

    def rank(self, past: Past) -> Tensor:
        together = self.together[past.item].to(past.rating.dtype)
        return self.likeness(past.item, together).sum(0)


def co_occurrences(schema: Schema, items: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """How many users watched both of a pair, 0 on the diagonal, float32 [I, I]."""
    if "histories.safetensors" not in schema.assets:
        return np.zeros((items, items), np.float32)
    histories = Histories(schema)
    watched = sparse.csr_matrix(
        (np.ones(len(histories.rows["items"]), np.float32), histories.rows["items"], histories.starts),
        (len(histories.starts) - 1, items),
    )
    together = np.asarray((watched.T @ watched).todense(), np.float32)
    np.fill_diagonal(together, 0)
    return together
