"""What a client sends and gets. Light enough for the command line to import."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SIZE, KOMI = 9, 7.0  # of a request that does not say
MOST_MOVES, MOST_VISITS = 2_000, 1_000
MOST_SGF = 60_000  # characters
Vertex = Annotated[str, Field(min_length=1, max_length=8, description="such as D4; there is no I; or pass")]
Colour = Literal["black", "white"]
Opponent = Literal["random", "greedy"]


class GoRequest(BaseModel):
    """A position, given by the moves that led to it, and what is wanted to be known of it."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"size": 5, "komi": 0.5, "moves": ["C3", "C2"]},
                {"sgf": "(;SZ[5]KM[0.5];B[cc];W[cd])"},
            ]
        },
    )

    size: int | None = Field(None, ge=1, le=19, description=f"points along each side; none = {SIZE}")
    komi: float | None = Field(
        None, ge=-361, le=361, description=f"points White gets for moving second; none = {KOMI:g}"
    )
    moves: list[Vertex] = Field(default_factory=list, max_length=MOST_MOVES, description="Black's first")
    sgf: str | None = Field(
        None, max_length=MOST_SGF, description="a game record in place of size, komi and moves"
    )
    superko: Literal["positional", "simple"] = Field("positional", description="what may not come back")
    suicide: bool = Field(False, description="whether a move may take its own last liberty")
    visits: int | None = Field(
        None, ge=0, le=MOST_VISITS, description="simulations; 0 = the network alone; none = the model's own"
    )
    symmetries: bool = Field(False, description="ask the network about all symmetries of the position")
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**32,
        description="draws among good moves, the same for the same seed; none = the best",
    )
    review: bool = Field(False, description="judge every move that was played, by the network alone")
    against: Opponent | None = Field(
        None, description="play the game to its end against this player; the model has the side to move"
    )


class Candidate(BaseModel):
    """A move that was considered, the most promising first."""

    move: str
    prior: float = Field(description="probability by the network alone")
    policy: float = Field(description="probability after the search")
    visits: int


class Reviewed(BaseModel):
    """A move of the record as the network sees the position before it."""

    best: str = Field(description="the likeliest legal move")
    probability: float = Field(description="of the move that was played")
    win_rate: float = Field(description="of the side to move")


class Played(BaseModel):
    """A game played to its end."""

    moves: list[str] = Field(description="from where the request ended")
    result: str = Field(description="as SGF has it: B+3.5, W+0.5 or Draw")
    outcome: float = Field(description="of the model: 1 won, 0.5 drawn, 0 lost")


class GoAnswer(BaseModel):
    """The best move and what the position is worth; as the side to move sees it unless said otherwise."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "move": "C4",
                    "win_rate": 0.75,
                    "score": 3.5,
                    "ownership": [[0.5, -0.5], [0.5, -0.5]],
                    "variation": ["C4", "B2"],
                    "candidates": [{"move": "C4", "prior": 0.5, "policy": 0.75, "visits": 40}],
                    "to_play": "black",
                    "stones": [".X", "O."],
                    "over": False,
                    "review": [],
                    "game": None,
                }
            ]
        }
    )

    move: str | None = Field(description="none where the game is over")
    win_rate: float = Field(description="0 to 1, a draw counted half")
    score: float = Field(description="points ahead at the end, komi counted")
    ownership: list[list[float]] = Field(
        description="of each point at the end, rows from the top: 1 Black's, -1 White's"
    )
    variation: list[str] = Field(description="what the search expects to be played")
    candidates: list[Candidate]
    to_play: Colour
    stones: list[str] = Field(description="rows from the top: X black, O white")
    over: bool
    review: list[Reviewed]
    game: Played | None
