"""What a model is worth: records per item, metrics with intervals, comparisons. The same code scores a
validation split, a test split, a batch, and what an endpoint answered."""

from penstock.evaluation.bootstrap import Interval, intervals
from penstock.evaluation.scoring import Scored, answer_rows, batches, join, records_of, score, summarise

__all__ = [
    "Interval",
    "Scored",
    "answer_rows",
    "batches",
    "intervals",
    "join",
    "records_of",
    "score",
    "summarise",
]
