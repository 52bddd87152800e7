"""The network as a graph: planes to policy, value, score and ownership. The search stays."""

from __future__ import annotations

from penstock.graphs import Export, Graph
from workloads.go.messages import GoRequest
from workloads.go.model import SCORE
from workloads.go.planes import KOMI, MEANING, PLANES
from workloads.go.predict import GoPredictor


def export(predictor: GoPredictor) -> Export:
    """Boards of every size."""
    graph = Graph(
        predictor.judge.module,
        inputs={"planes": ("batch", PLANES, "rows", "columns")},
        outputs={
            "policy": ("batch", "rows * columns + 1"),
            "value": ("batch",),
            "score": ("batch",),
            "ownership": ("batch", "rows", "columns"),
        },
    )
    return Export(
        {"model": graph},
        preprocessing={
            "steps": [
                "planes of 0 and 1 through the eyes of the side to move, in the order of `planes`; the last "
                "holds numbers",
                "boards of several sizes may stand in one batch, filled up with 0",
            ],
            "planes": list(MEANING),
            "komi_unit": KOMI,
        },
        postprocessing={
            "steps": [
                "`policy`: logits, row by row from the top, pass last; softmax over what may be played",
                "`value`: tanh of it, -1 a loss and 1 a win of the side to move",
                "`score`: times `score_unit`, points ahead with komi",
                "`ownership`: tanh of it, 1 own and -1 the enemy's",
                "the search (Gumbel AlphaZero, workloads/go/thinking.py) is not in the graph: these are the "
                "answers with visits = 0",
            ],
            "score_unit": SCORE,
            "search": False,
        },
        ask=without_search,
    )


def without_search(request: GoRequest) -> GoRequest:
    """A search, or a game, would make much of the last digit."""
    return request.model_copy(update={"visits": 0, "against": None})
