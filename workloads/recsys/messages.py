"""What a client sends and gets. Light enough for the command line to import."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LONGEST = 128  # characters of an id
LATEST = 1e11  # Unix seconds; what is later is in milliseconds
UTMOST = 1e6  # of a rating: squares and sums of it stay finite
MOST_RATED, MOST_SCORED, MOST_RECOMMENDED = 2_000, 1_000, 100
Id = Annotated[str, Field(min_length=1, max_length=LONGEST)]


class Rated(BaseModel):
    """An item that the user has watched."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    item: Id
    rating: float | None = Field(
        None, ge=-UTMOST, le=UTMOST, description="in the units of the training data; none = only watched"
    )
    time: float | None = Field(None, ge=0, le=LATEST, description="Unix seconds; none = now")


class Wanted(BaseModel):
    """An item whose rating is asked for."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    item: Id
    time: float | None = Field(None, ge=0, le=LATEST, description="Unix seconds; none = now")


class RecsysRequest(BaseModel):
    """Who asks, and for what. Without `user` and `rated` the most watched items are named."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            # every catalogue can answer them: an endpoint starts a model with its examples
            "examples": [{"n": 5}, {"user": "42", "n": 3}]
        },
    )

    user: Id | None = Field(None, description="id as in the training data; an unknown one is a new user")
    rated: list[Rated] = Field(
        default_factory=list, max_length=MOST_RATED, description="beside what the model knows of the user"
    )
    n: int = Field(10, ge=0, le=MOST_RECOMMENDED, description="how many items are recommended")
    genres: list[Id] = Field(
        default_factory=list, max_length=32, description="only items of at least one of them"
    )
    exclude_seen: bool = Field(True, description="leave out what the user has watched")
    score: list[Wanted] = Field(
        default_factory=list, max_length=MOST_SCORED, description="items to predict the rating of"
    )
    similar_to: Id | None = Field(None, description="an item; `similar` holds the `n` nearest to it")


class Recommended(BaseModel):
    """An item, best first."""

    item: str
    title: str = Field("", description="empty where it is not known")
    score: float = Field(description="what the list is ordered by; comparable within one answer")
    rating: float | None = Field(None, description="predicted, in the units of the training data")


class RecsysAnswer(BaseModel):
    """Recommendations, and what else was asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "basis": "history",
                    "items": [{"item": "v4", "title": "Film 4 (1988)", "score": 2.5, "rating": 8.1}],
                    "scores": [],
                    "similar": [],
                }
            ]
        }
    )

    basis: Literal["history", "popularity"] = Field(
        description="popularity: nothing is known of the user, the most watched items are named"
    )
    items: list[Recommended]
    scores: list[Recommended] = Field(description="one for each of `score`, in that order")
    similar: list[Recommended] = Field(description="`score` is the cosine of two items' vectors")
