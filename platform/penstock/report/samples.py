"""A few test items with what the model said: pictures, sounds, or the request as text."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from penstock import registry
from penstock.data.shards import Shards
from penstock.evaluation import answer_rows
from penstock.media import AUDIO, IMAGE, decode_image, decode_wav, media_fields, picture_flag
from penstock.registry import Version
from penstock.report.figures import wave_figure
from penstock.store import Store
from penstock.workload import Refusal, Row, resolve

LOOKED_AT = 64  # items answered to choose from
SHOWN = 12
MOST_WRONG = 4  # of those shown, so that the page is no gallery of failures either
THUMBNAIL = 256  # pixels, the longer side
LONGEST_SOUND = 400_000  # bytes that can be played from the page


@dataclass(frozen=True)
class Sample:
    """One item: its name, the truth ("" where there are no classes), whether the answer was right (None
    where nobody can say), what to show of the request, and the answer as (name, share or None) lines."""

    item: str
    truth: str
    said: str
    right: bool | None
    picture: str = ""  # data URI
    sound: str = ""  # data URI
    svg: str = ""
    text: str = ""
    scores: Sequence[tuple[str, float]] = ()


def samples(store: Store, version: Version, rows: Shards) -> tuple[list[Sample], list[Row], list[Any]]:
    """(what to show, their rows, their answers): some wrong ones first, the rest right, always the same."""
    workload = registry.workload_of(version)
    model = registry.load(store, version)
    evaluator = registry.evaluator_of(version)
    predictor = resolve(workload.predictor)(model, "cpu")
    random = np.random.Generator(np.random.Philox(key=0))
    chosen = random.permutation(len(rows))[:LOOKED_AT]
    some: list[Row] = list(rows.rows(chosen.tolist()))
    answers: Any = answer_rows(evaluator, predictor, some) if some else []
    requests = evaluator.requests(some) if some else []
    judged = [verdict(row, answer, model.schema.labels) for row, answer in zip(some, answers, strict=True)]
    wrong = [i for i, right in enumerate(judged) if right is False][:MOST_WRONG]
    rest = [i for i, right in enumerate(judged) if right is not False]
    show = (wrong + rest)[:SHOWN]
    if flag := picture_flag(workload.request):
        drawn = predictor.predict([requests[i].model_copy(update={flag: True}) for i in show])
        answers = dict(zip(show, drawn, strict=True))
    made = [sample(some[i], requests[i], answers[i], judged[i], model.schema.labels) for i in show]
    return made, [some[i] for i in show], [answers[i] for i in show]


def verdict(row: Row, answer: Any, labels: Sequence[str]) -> bool | None:
    """Whether the answer's `label` is the row's; None where there is no such thing."""
    truth = truth_of(row, labels)
    if not truth:
        return None
    if isinstance(answer, Refusal):
        return False
    said = getattr(answer, "label", None)
    return said == truth if isinstance(said, str) else None


def truth_of(row: Row, labels: Sequence[str]) -> str:
    label = row.get("label")
    return labels[int(label)] if label is not None and labels and 0 <= int(label) < len(labels) else ""


def sample(row: Row, request: BaseModel, answer: Any, right: bool | None, labels: Sequence[str]) -> Sample:
    if isinstance(answer, Refusal):
        shown, said, scores = show_request(request), f"refused: {answer.detail}", []
    else:
        shown = show_answer(answer) or show_request(request)
        values = answer.model_dump(mode="json", exclude=media_fields(type(answer)).keys())
        scores = top_scores(values)
        said = values["label"] if isinstance(values.get("label"), str) else excerpt(plain(values))
    return Sample(str(row["item"]), truth_of(row, labels), said, right, scores=scores, **shown)


def show_answer(answer: BaseModel) -> dict[str, str]:
    """The answer's own picture, where it holds one."""
    for name, media in media_fields(type(answer)).items():
        raw = getattr(answer, name)
        if media == IMAGE and isinstance(raw, bytes):
            return {"picture": thumbnail(raw)}
    return {}


def show_request(request: BaseModel) -> dict[str, str]:
    for name, media in media_fields(type(request)).items():
        raw = getattr(request, name)
        if not isinstance(raw, bytes):
            continue
        try:
            if media == IMAGE:
                return {"picture": thumbnail(raw)}
            if media == AUDIO:
                wave, rate = decode_wav(raw)
                sound = data_uri("audio/wav", raw) if len(raw) <= LONGEST_SOUND else ""
                return {"svg": wave_figure(wave, rate).svg, "sound": sound}
        except ValueError as error:
            return {"text": str(error)}
    return {"text": excerpt(request.model_dump(mode="json", exclude_defaults=True))}


def thumbnail(raw: bytes) -> str:
    """A picture as a data URI, at most THUMBNAIL pixels."""
    picture = decode_image(raw)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return data_uri("image/jpeg", out.getvalue())


def data_uri(kind: str, raw: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(raw).decode('ascii')}"


def top_scores(values: Mapping[str, Any], most: int = 3) -> list[tuple[str, float]]:
    """The highest entries of the answer's first table of scores, else its `score`."""
    for value in values.values():
        if isinstance(value, Mapping) and value and all(isinstance(score, float) for score in value.values()):
            return sorted(value.items(), key=lambda entry: -entry[1])[:most]
        if (
            isinstance(value, list)
            and value
            and all(isinstance(one, dict) and "score" in one for one in value)
        ):
            return [(called(one), float(one["score"])) for one in value[:most]]
    score = values.get("score")
    return [("score", score)] if isinstance(score, float) else []


def called(entry: Mapping[str, Any]) -> str:
    """What an entry of a list is about: its label or title, else its id."""
    return next((str(entry[name]) for name in ("label", "title", "item") if entry.get(name)), "")


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """An answer to be read in a line: of long lists their length, nothing that is empty."""
    short = {
        name: f"{len(value)}" if isinstance(value, list) and len(str(value)) > 40 else value
        for name, value in values.items()
    }
    return {name: value for name, value in short.items() if value not in (None, "", [], {})}


def excerpt(values: Any, most: int = 160) -> str:
    text = json.dumps(values, ensure_ascii=False)
    return text if len(text) <= most else f"{text[: most - 1]}…"
