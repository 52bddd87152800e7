"""Values of a column to ids and numbers; what cannot be one is a fault of its row. No loop over rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pac
from numpy.typing import NDArray

from workloads.recsys.messages import LONGEST, UTMOST

POWERS = 10 ** np.arange(19, dtype=np.int64)


def ids(values: pa.ChunkedArray, role: str, faults: dict[int, str]) -> pa.DictionaryArray:
    """Ids of any type as text; what cannot be one goes to `faults` by row."""
    column = _whole(values)
    if column is None:
        plain = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
        binary = pa.types.is_binary(plain.type) or pa.types.is_large_binary(plain.type)
        column = (plain if binary else plain.cast(pa.large_string())).dictionary_encode().combine_chunks()
    place = column.indices
    for row in np.flatnonzero(place.is_null().to_numpy(zero_copy_only=False)):
        faults.setdefault(int(row), f"no {role}")
    named = column.dictionary
    named = (named.cast(pa.string()) if pa.types.is_integer(named.type) else named).cast(pa.large_binary())
    why: dict[int, str] = {}
    known: list[str] = []
    for number, raw in enumerate([] if _plain(named) else named.to_pylist()):
        text = (raw or b"").decode("utf-8", "replace")
        if not text:
            why[number] = f"no {role}"
        elif len(text) > LONGEST:
            why[number] = f"{role} {text[:20]!r}… has {len(text)} characters; {LONGEST} are possible"
        elif "�" in text and raw != text.encode():
            why[number] = f"{role} {text[:40]!r} is not UTF-8"
        elif not text.isprintable() and any(mark in text for mark in "\r\n\0"):
            why[number] = f"{role} {text[:40]!r} holds a line break or a zero byte"
        known.append(f"\0{number}" if number in why else text)
    if why:
        wrong = np.isin(place.fill_null(-1).to_numpy(), list(why))
        for row in np.flatnonzero(wrong):
            faults.setdefault(int(row), why[place[row].as_py()])
    texts = pa.array(known, pa.large_string()) if known else named.cast(pa.large_string())
    return pa.DictionaryArray.from_arrays(place.cast(pa.int32()), texts)


def _whole(values: pa.ChunkedArray) -> pa.DictionaryArray | None:
    """Ids as a dictionary of int64, if all are whole numbers that would be printed as they stand ("007" would
    not): three times as fast as bytes."""
    if pa.types.is_integer(values.type):
        return values.dictionary_encode().combine_chunks()
    if not pa.types.is_binary(values.type):
        return None
    found = []
    for chunk in values.chunks:
        try:
            numbers = chunk.cast(pa.string()).cast(pa.int64())
        except pa.ArrowInvalid:
            return None
        number, size = (part.fill_null(1).to_numpy() for part in (numbers, pac.binary_length(chunk)))
        if not ((size == 1) | (number >= POWERS[np.clip(size - 1, 0, 18)])).all():
            return None
        found.append(numbers)
    return pa.chunked_array(found, pa.int64()).dictionary_encode().combine_chunks()


def _plain(ids: pa.Array) -> bool:
    """Whether none of them can be at fault; quick."""
    try:
        texts = ids.cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    size = pac.utf8_length(texts).to_numpy(zero_copy_only=False)
    odd = pac.match_substring_regex(texts, r"[\r\n\x00]").to_numpy(zero_copy_only=False)
    return bool(not ids.null_count and ((size > 0) & (size <= LONGEST)).all() and not odd.any())


def numbers(
    column: pa.ChunkedArray | None, role: str, limits: tuple[float, float], faults: dict[int, str]
) -> NDArray[np.float64] | None:
    """A column as float64 [N]; what is no number within the limits goes to `faults` by row. ArrowTypeError
    when it holds times and no dates."""
    if column is None:
        return None
    if pa.types.is_temporal(column.type):
        if role == "rating" or pa.types.is_time(column.type) or pa.types.is_duration(column.type):
            raise pa.ArrowTypeError(f"the column of {role}s holds {column.type}; see data.{role}")
        zone = getattr(column.type, "tz", None)
        column = column.cast(pa.timestamp("s", zone), safe=False).cast(pa.int64())
    series = column.to_pandas()
    found: NDArray[np.float64] = pd.to_numeric(series, errors="coerce").to_numpy(np.float64)
    low, high = limits
    for row in np.flatnonzero(~((found >= low) & (found <= high))):
        value = series.iloc[row]
        shown = str(value)[:40]
        if value is None or value != value:
            why = f"no {role}"
        elif found[row] != found[row]:
            why = f"{role} {shown!r} is not a number"
        elif role == "timestamp":
            why = f"timestamp {shown} is not in Unix seconds"
        else:
            why = f"{role} {shown} is not within ±{UTMOST:,.0f}"
        faults.setdefault(int(row), why)
    return found
