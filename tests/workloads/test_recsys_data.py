"""Recsys: files of ratings to rows, what is held out, what is learned at prepare, the generated world."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.data.dataset import Dataset
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.errors import ConfigError, DataError
from penstock.store import Store
from penstock.workload import Schema
from workloads.recsys import workload
from workloads.recsys.catalogue import ITEM_SHRINK, USER_SHRINK, Catalogue, Histories, biases, vectors
from workloads.recsys.columns import NAMES
from workloads.recsys.config import Config, Data, Net
from workloads.recsys.data import Csv, numbers, of_model
from workloads.recsys.model import build
from workloads.recsys.synthetic import NOISE, characters, watched

Rating = tuple[str, str, float, int]
HEADER = ("user_id", "item_id", "rating", "timestamp")


def ratings(users: int = 14, items: int = 16, share: float = 0.6, seed: int = 0) -> list[Rating]:
    """Some of all pairs; several of a user at the same second."""
    draw = np.random.default_rng(seed)
    return [
        (f"{user}", f"{item}", float(draw.integers(1, 11)), 1_400_000_000 + int(draw.integers(40)) * 3_600)
        for user in range(users)
        for item in range(items)
        if draw.random() < share
    ]


def write(file: Path, rows: Sequence[Sequence[Any]], header: Sequence[str] = HEADER, mark: str = ",") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *rows] if header else rows
    file.write_text("".join(mark.join(f"{value:g}" if isinstance(value, float) else str(value)
                                      for value in line) + "\n" for line in lines))  # fmt: skip
    return file


def read(source: str, store: Store, data: Data | None = None, skip_bad: int = 0) -> Dataset:
    return prepare(workload, source, data or Data(), store, skip_bad=skip_bad, mapper=in_process)


def pairs(dataset: Dataset, split: str, prefix: str = "") -> list[tuple[str, str, float, int]]:
    """(user, item, rating, time) of every rating that the rows of a split hold."""
    ids, shards = Catalogue(dataset.schema).ids, getattr(dataset, split)
    return [
        (row["item"].partition("/")[2], ids[item], float(rating), int(time))
        for row in shards.rows(range(len(shards)))
        for item, rating, time in zip(
            row[f"{prefix}items"], row[f"{prefix}ratings"], row[f"{prefix}times"], strict=True
        )
    ]


def everything(dataset: Dataset) -> list[tuple[str, str, float, int]]:
    """What stands in any split."""
    return [rating for split in ("train", "validation", "test") for rating in pairs(dataset, split)]


# ---------------------------------------------------------------- formats and columns


def parquet(file: Path, rows: Sequence[Rating]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = [
        [int(r[0]) for r in rows],
        [int(r[1]) for r in rows],
        *zip(*[r[2:] for r in rows], strict=True),
    ]
    pq.write_table(pa.table(dict(zip(HEADER, columns, strict=True))), file)
    return file


FORMATS: dict[str, Callable[[Path, list[Rating]], str]] = {
    "a file": lambda root, rows: f"csv:{write(root / 'mine.csv', rows)}",
    "ratings.csv": lambda root, rows: f"csv:{write(root / 'ratings.csv', rows).parent}",
    "semicolons": lambda root, rows: f"csv:{write(root / 'mine.csv', rows, mark=';')}",
    "tabs": lambda root, rows: f"csv:{write(root / 'mine.tsv', rows, mark=chr(9))}",
    "ratings.dat": lambda root, rows: f"csv:{write(root / 'ratings.dat', rows, (), '::').parent}",
    "u.data": lambda root, rows: f"csv:{write(root / 'u.data', rows, (), chr(9)).parent}",
    "ratings.parquet": lambda root, rows: f"parquet:{parquet(root / 'ratings.parquet', rows).parent}",
    "another order": lambda root, rows: f"csv:{write(root / 'mine.csv', sorted(rows, key=hash))}",
    "more columns": lambda root, rows: (
        f"csv:{write(root / 'm.csv', [('x', *r[::-1]) for r in rows], ('note', *HEADER[::-1]))}"
    ),
}


def test_the_same_ratings_are_the_same_data_set_in_every_format_and_order(
    tmp_path: Path, store: Store
) -> None:
    rows = ratings()
    made = {name: read(form(tmp_path / name, rows), store) for name, form in FORMATS.items()}
    assert len({dataset.id for dataset in made.values()}) == 1
    assert sorted(everything(made["a file"])) == sorted(rows)


@pytest.mark.parametrize(("user", "item"), [(u, i) for u in NAMES["user"] for i in NAMES["item"] if u != i])
def test_columns_are_found_by_their_usual_names(user: str, item: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", ratings(), (user, item, "rating", "timestamp"))
    fields = Csv().scan(str(file), Data()).schema.fields
    assert fields["users"] == 14 and fields["rated"] and fields["timed"] and fields["highest"] == 10


def test_columns_are_found_by_the_names_that_the_config_gives(tmp_path: Path, store: Store) -> None:
    own = ("User-ID", "ISBN", "Book-Rating", "when")
    data = Data(user="User-ID", item="ISBN", rating="Book-Rating", timestamp="when")
    made = read(f"csv:{write(tmp_path / 'a.csv', ratings(), own, ';')}", store, data)
    assert len(pairs(made, "train")) > 80
    with pytest.raises(DataError, match=re.escape("a.csv: no column 'ISNB' (data.item); did you mean ISBN?")):
        Csv().scan(str(tmp_path / "a.csv"), Data(user="User-ID", item="ISNB"))


def test_quotes_a_byte_order_mark_and_empty_lines_do_no_harm(tmp_path: Path, store: Store) -> None:
    rows = ratings()
    text = (
        write(tmp_path / "a.csv", rows).read_text().replace("user_id", '"user_id"').replace("\n", "\r\n\r\n")
    )
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read(f"csv:{tmp_path / 'a.csv'}", store).id == read(f"csv:{tmp_path / 'b.csv'}", store).id


def test_ids_stay_as_they_stand_in_the_file(tmp_path: Path, store: Store) -> None:
    odd = ["007", "7", "1e3", "1000", "12:30", "2020-01-01", "true", "NA", "nan", "null", "a/b c", "ünïcödé",
           "🎬", "98765432109876543210", '"', "x,y"]  # fmt: skip
    lines = [
        ('"' + odd[int(user)].replace('"', '""') + '"', '"' + odd[int(item)].replace('"', '""') + '"', r, t)
        for user, item, r, t in ratings(16, 16)
    ]
    made = read(f"csv:{write(tmp_path / 'a.csv', lines)}", store)
    assert Catalogue(made.schema).ids == sorted(odd)
    assert set(Histories(made.schema).number) == set(odd)
    wanted = sorted((odd[int(u)], odd[int(i)], r, t) for u, i, r, t in ratings(16, 16))
    assert sorted(everything(made)) == wanted


@pytest.mark.parametrize(
    "kind", [pa.int32(), pa.int64(), pa.string(), pa.large_string(), pa.float64(), pa.binary(), "dictionary"]
)
def test_ids_of_parquet_may_have_any_type(kind: Any, tmp_path: Path) -> None:
    rows = ratings()
    users: Any = pa.array([r[0].encode() if kind == pa.binary() else int(r[0]) for r in rows])
    if kind == "dictionary":
        users = users.dictionary_encode()
    elif kind != pa.binary():
        users = users.cast(kind)
    table = pa.table({"user": users, "item": [r[1] for r in rows]})
    pq.write_table(table, tmp_path / "a.parquet")
    scan = Csv().scan(str(tmp_path / "a.parquet"), Data())
    assert {item.unit for item in scan.items} == {r[0] for r in rows}


def test_data_without_ratings_are_watches_and_only_some_models_take_them(
    tmp_path: Path, store: Store
) -> None:
    made = read(f"csv:{write(tmp_path / 'a.csv', [r[:2] for r in ratings()], HEADER[:2])}", store)
    fields = made.schema.fields
    assert not fields["rated"] and not fields["timed"] and fields["lowest"] == fields["highest"] == 1
    # without times the order of the file is the order of a history
    history = [r[1] for r in ratings() if r[0] == "3"]
    kept = [item for user, item, *_ in pairs(made, "train") if user == "3"]
    assert len(kept) > 3 and kept == [item for item in history if item in kept]
    for kind in ("neighbours", "dense", "factors", "bias"):
        with pytest.raises(
            ConfigError, match=f"model.kind = '{kind}': the data holds no ratings; use 'sasrec'"
        ):
            build(Config(model=Net(kind=kind)), made.schema)
    for kind in ("sasrec", "itemknn", "popularity"):
        build(Config(model=Net(kind=kind)), made.schema)  # type: ignore[arg-type]


def test_dates_are_read_as_seconds(tmp_path: Path, store: Store) -> None:
    rows = [(*r[:3], f"2014-05-{1 + n % 28:02d} 10:00:00") for n, r in enumerate(ratings())]
    made = read(f"csv:{write(tmp_path / 'a.csv', rows)}", store)
    assert {time % 86_400 for *_, time in pairs(made, "train")} == {36_000}
    assert made.schema.fields["first"] == 1_398_938_400


# ---------------------------------------------------------------- titles


@pytest.mark.parametrize("name", ["movies.csv", "items.csv", "videos.csv", "movies.dat"])
def test_titles_and_genres_stand_beside_the_ratings(name: str, tmp_path: Path, store: Store) -> None:
    write(tmp_path / "ratings.csv", ratings())
    lines = [
        '3::"Ghost" Town, The (2008)::Comedy|Drama',
        "5::Amélie (2001)::(no genres listed)",
        "99::Not rated::X",
    ]
    if name.endswith(".csv"):
        lines = ["movieId,title,genres", '3,"""Ghost"" Town, The (2008)",Comedy|Drama', "99,Not rated,X"]
        lines.insert(2, "5,Amélie (2001),(no genres listed)")
    (tmp_path / name).write_bytes("\n".join(lines).encode("latin-1" if name.endswith(".dat") else "utf-8"))
    known = Catalogue(read(f"csv:{tmp_path}", store).schema)
    three, five, seven = (known.number[name] for name in "357")
    assert known.titles[three] == '"Ghost" Town, The (2008)' and known.genres[three] == ["Comedy", "Drama"]
    assert known.titles[five] == "Amélie (2001)" and known.genres[five] == known.genres[seven] == []
    assert known.titles[seven] == "" and known.kinds == ["Comedy", "Drama"] and "99" not in known.number
    assert np.linalg.norm(known.traits, axis=1)[[three, five]] == pytest.approx([1, 0])
    np.testing.assert_allclose(known.decades[[three, five, seven]], [0.8, 0.1, 0.45], atol=1e-6)


def test_a_file_of_titles_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    write(tmp_path / "ratings.csv", ratings())
    (tmp_path / "movies.csv").write_text("id,name\n1,x\n")
    with pytest.raises(DataError, match=r"movies\.csv: columns item_id, .* and title are needed"):
        Csv().scan(str(tmp_path), Data())


# ---------------------------------------------------------------- what is held out


@pytest.mark.parametrize("split", ["auto", "random", "last", "user", "given"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_rating_is_in_exactly_one_part(
    split: Any, shuffled: bool, tmp_path: Path, store: Store
) -> None:
    rows = ratings(30)
    given = rows[::7]
    left = [row for row in rows if row not in given] if split == "given" else rows
    data = Data(split="auto" if split == "given" else split, test=0.2, validation=0.1)
    ids = []
    for name, order in (("a", 1), ("b", -1 if shuffled else 1)):
        write(tmp_path / name / ("train.csv" if split == "given" else "ratings.csv"), left[::order])
        if split == "given":
            write(tmp_path / name / "test.csv", given[::order])
        made = read(f"csv:{tmp_path / name}", store, data)
        ids.append(made.id)
    assert ids[0] == ids[1]
    train, validation, test = (pairs(made, part) for part in ("train", "validation", "test"))
    told = set(pairs(made, "test", "past_"))
    known = told - set(validation)
    assert sorted([*train, *validation, *test, *known]) == sorted(rows)
    assert all((train, validation, test)) and not pairs(made, "validation", "past_")
    of_test = {row[0] for row in test}
    if split == "given":
        assert sorted(test) == sorted(given)
    elif split == "last":
        assert len(test) == len(validation) == 30
        times = {user: sorted(r[3] for r in rows if r[0] == user) for user, *_ in test}
        assert all(time == times[user][-1] for user, _, _, time in test)
        assert all(time == times[user][-2] for user, _, _, time in validation)
    elif split == "user":
        assert not of_test & {row[0] for row in [*train, *validation]} and 2 <= len(of_test) <= 12
        newest = {user: max(r[3] for r in known if r[0] == user) for user in of_test}
        assert all(time >= newest[user] for user, _, _, time in test) and len(known) > len(of_test)
    else:
        assert 0.1 < len(test) / len(rows) < 0.3 and 0.03 < len(validation) / len(rows) < 0.2
    if split != "user":
        # what a user rated for validation is told when the test is asked
        assert told == {row for row in validation if row[0] in of_test}


def test_a_rating_stays_in_its_part_when_others_come(tmp_path: Path, store: Store) -> None:
    few, many = ratings(20), [*ratings(20), *((f"new{u}", i, r, t) for u, i, r, t in ratings(20, seed=1))]
    data = Data(test=0.3)
    tests = [set(pairs(read(f"csv:{write(tmp_path / f'{n}.csv', rows)}", store, data), "test"))
             for n, rows in enumerate((few, many))]  # fmt: skip
    assert tests[0] == {row for row in tests[1] if not row[0].startswith("new")}


@pytest.mark.parametrize("timed", [True, False])
def test_of_a_pair_that_is_rated_twice_the_later_one_counts(
    timed: bool, tmp_path: Path, store: Store
) -> None:
    rows = ratings()
    twice = [(user, item, 0.0, time + 5) for user, item, _, time in rows[:9]]
    lines: list[Any] = [*twice, *rows] if timed else [*rows, *twice]
    header = HEADER if timed else HEADER[:3]
    made = read(f"csv:{write(tmp_path / 'a.csv', [row[: len(header)] for row in lines], header)}", store)
    found = {row[:2]: row[2] for row in everything(made)}
    assert made.schema.fields["duplicates"] == 9 and len(found) == len(rows)
    assert [found[row[0], row[1]] for row in rows] == [0.0] * 9 + [row[2] for row in rows[9:]]


def test_what_is_tested_is_not_trained_on_though_both_files_hold_it(tmp_path: Path, store: Store) -> None:
    rows = ratings()
    write(tmp_path / "train.csv", [(*row[:3], row[3] + 99) for row in rows])
    write(tmp_path / "test.csv", rows[:20])
    made = read(f"csv:{tmp_path}", store)
    assert sorted(pairs(made, "test")) == sorted(rows[:20]) and made.schema.fields["duplicates"] == 20
    assert not {row[:2] for row in rows[:20]} & {row[:2] for row in pairs(made, "train")}


def test_other_data_is_read_in_the_numbers_of_the_model() -> None:
    row = {"items": np.array([0, 2, 1]), "ratings": np.array([7.0, 8, 9]), "times": np.arange(3)}
    row |= {f"past_{name}": value[:2] for name, value in row.items()}
    found = of_model(row, np.array([5, -1, 3], np.int32))
    assert found["items"].tolist() == [5, 3] and found["ratings"].tolist() == [7, 8] and found["strange"] == 1
    assert found["past_items"].tolist() == [5, 3]


def test_a_model_is_judged_on_other_data_by_ids(tmp_path: Path, store: Store) -> None:
    made = read(f"csv:{write(tmp_path / 'a.csv', ratings())}", store)
    other = [(user, "0new" if item == "4" else item, r, t) for user, item, r, t in ratings(seed=5)]
    file = write(tmp_path / "b.csv", other)
    judged = prepare(
        workload, f"csv:{file}", Data(), store, use="evaluate", schema=made.schema, mapper=in_process
    )
    assert numbers(["0", "0new", "1"], made.schema).tolist() == [0, -1, 1]
    told, asked = pairs(judged, "test", "past_"), pairs(judged, "test")
    assert {*told, *asked} <= set(other) and len(told) > 50, "numbers of the model's items, not of the file's"
    rows_of = judged.test.rows(range(len(judged.test)))
    users = {row["who"] for row in rows_of}
    wanted = [r for r in other if r[0] in users]
    assert len(asked) + len(told) == sum(r[1] != "0new" for r in wanted)
    assert sum(row["strange"] for row in rows_of) <= sum(r[1] == "0new" for r in wanted)


# ---------------------------------------------------------------- what is refused


def spoiled(line: bytes, at: int = 5) -> Callable[[bytes], bytes]:
    """A file with one line replaced; 1 = the header."""

    def spoil(raw: bytes) -> bytes:
        lines = raw.splitlines()
        lines[at - 1] = line
        return b"\n".join(lines) + b"\n"

    return spoil


BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no number": (spoiled(b"3,5,good,1400000000"), "rating 'good' is not a number"),
    "NaN": (spoiled(b"3,5,NaN,1400000000"), "no rating"),
    "no rating": (spoiled(b"3,5,,1400000000"), "no rating"),
    "infinite": (spoiled(b"3,5,inf,1400000000"), "rating inf is not within"),
    "far too large": (spoiled(b"3,5,1e30,1400000000"), "rating 1e+30 is not within"),
    "no user": (spoiled(b",5,3,1400000000"), "no user"),
    "no item": (spoiled(b'3,"",3,1400000000'), "no item"),
    "too many": (spoiled(b"3,5,3,1400000000,8"), "5 values in a row of 4"),
    "too few": (spoiled(b"3,5,3"), "3 values in a row of 4"),
    "no time": (spoiled(b"3,5,3,"), "no timestamp"),
    "milliseconds": (spoiled(b"3,5,3,1400000000000"), "timestamp 1400000000000 is not in Unix seconds"),
    "not UTF-8": (spoiled(b"3,caf\xe9,3,1400000000"), "item 'caf�' is not UTF-8"),
    "long": (spoiled(b"%s,5,3,1400000000" % (b"u" * 129)), "has 129 characters; 128 are possible"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("lines_before", [b"", b"\n\n"])
def test_a_row_that_cannot_be_used_is_named_with_its_line_and_can_be_skipped(
    name: str, lines_before: bytes, tmp_path: Path, store: Store
) -> None:
    spoil, said = BAD[name]
    file = write(tmp_path / "a.csv", ratings())
    raw = spoil(file.read_bytes()).replace(b"\n", b"\n" + lines_before, 1)
    file.write_bytes(raw)
    where = f"a.csv line {5 + len(lines_before)}"
    with pytest.raises(DataError, match="--skip-bad 1") as error:
        read(f"csv:{file}", store)
    assert str(error.value).startswith(f"{where}: ") and said in str(error.value)
    assert "\n" not in str(error.value)
    made = read(f"csv:{file}", store, skip_bad=1)
    assert [bad["item"] for bad in made.card["skipped"]] == [where]
    assert len(everything(made)) == len(ratings()) - 1


def test_several_bad_rows_are_each_named_with_its_own_line(tmp_path: Path, store: Store) -> None:
    file = write(tmp_path / "a.csv", ratings())
    raw = file.read_bytes()
    for at, line in ((4, b"3,5"), (5, b"3,5,x,1"), (9, b",5,3,1"), (12, b"1,2,3,4,5,6")):
        raw = spoiled(line, at)(raw)
    file.write_bytes(raw)
    made = read(f"csv:{file}", store, skip_bad=4)
    found = {bad["item"]: bad["why"] for bad in made.card["skipped"]}
    assert found == {
        "a.csv line 4": "2 values in a row of 4",
        "a.csv line 5": "rating 'x' is not a number",
        "a.csv line 9": "no user",
        "a.csv line 12": "6 values in a row of 4",
    }
    assert Catalogue(made.schema).ids == sorted({r[1] for r in ratings()}), "no item of a bad row only"


def test_a_bad_row_of_the_test_file_counts_when_a_model_is_judged(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "train.csv", ratings())
    write(tmp_path / "test.csv", [("1", "x", "bad", 5), ("1", "y", 3, 5)])
    splits = {item.name: item.split for item in Csv().scan(str(tmp_path), Data()).items}
    assert splits["test.csv line 2"] == "test"


def test_a_bad_row_of_parquet_is_named_by_its_number(tmp_path: Path, store: Store) -> None:
    table = pa.table(
        {"user": ["a", None, "c"] * 20, "item": [f"{n}" for n in range(60)], "rating": [1.0, 2, 3] * 20}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=re.escape("a.parquet row 11: no user (20 bad of")):
        read(f"parquet:{tmp_path / 'a.parquet'}", store)


FILES: list[tuple[bytes, str]] = [
    (b"", "a.csv: the file is empty"),
    (b"user_id,item_id,rating\n", "a.csv: no usable rating"),
    (b"user_id,item_id,rating\n1,2,x\n", "a.csv: no usable rating; a.csv line 2: rating 'x' is not a number"),
    (b"who,item_id,rating\n1,2,3\n", "a.csv: no column of users (user_id, userId, user) among who, item_id"),
    (
        b"user_id,what\n1,2\n",
        "no column of items (item_id, video_id, movie_id, movieId, item) among user_id, what",
    ),
    (b"user,item,item\n1,2,3\n", "a.csv: two columns are called 'item'; rename one"),
    (b"user,item,rating\n1,2,3\n", "a.csv: too few ratings to hold some out"),
    (b"user,item\n1,2\n1,3\n", "a.csv: too few ratings to hold some out"),
    (
        b'user,item\n1,2\n"1,3\n2,3\n4,5\n',
        "a.csv line 3: a quotation mark is opened and not closed; repair it",
    ),
    ("user,item\n1,2\n".encode("utf-16"), "a.csv: 'utf-8' codec can't decode"),
    (
        b"user,item,rating\n1,2,2014-01-01\n",
        "a.csv: the column of ratings holds date32[day]; see data.rating",
    ),
    (
        b"user,item,timestamp\n1,2,10:30\n",
        "a.csv: the column of timestamps holds time32[s]; see data.timestamp",
    ),
    (b"PAR1 not a table", "a.parquet: "),
]


@pytest.mark.parametrize(("raw", "said"), FILES)
def test_a_file_that_cannot_be_used_is_named_in_one_line(
    raw: bytes, said: str, tmp_path: Path, store: Store
) -> None:
    file = tmp_path / ("a.parquet" if raw.startswith(b"PAR1") else "a.csv")
    file.write_bytes(raw)
    with pytest.raises(DataError, match=re.escape(said)) as error:
        read(f"csv:{file}", store)
    assert "\n" not in str(error.value)


def test_folders_and_settings_that_cannot_be_are_named(tmp_path: Path, store: Store) -> None:
    with pytest.raises(
        DataError, match=r"no ratings in .*: train\.csv \+ test\.csv or .* or u\.data is needed"
    ):
        Csv().scan(str(tmp_path), Data())
    write(tmp_path / "train.csv", ratings())
    write(tmp_path / "test.csv", [row[:2] for row in ratings()[:9]], HEADER[:2])
    with pytest.raises(DataError, match=r"test\.csv: no column of ratings, unlike the other file"):
        Csv().scan(str(tmp_path), Data())
    file = write(tmp_path / "one.csv", [(f"{n}", f"{n % 3}", 3, n) for n in range(50)])
    with pytest.raises(
        DataError, match=r"one\.csv: too few ratings to hold some out; 3 of one user are needed"
    ):
        read(f"csv:{file}", store, Data(split="last"))
    for wrong in ({"test": 0.0}, {"test": 1.0}, {"validation": 1.5}, {"rank": 0}):
        with pytest.raises(ConfigError, match=f"data.{next(iter(wrong))} = "):
            Data(**wrong)
    for net in (
        {"layers": 0},
        {"negatives": -1},
        {"hidden": 0},
        {"dropout": 1.0},
        {"width": 20},
        {"heads": 0},
    ):
        with pytest.raises(ConfigError, match=f"model.{next(iter(net))} = "):
            Net(**net)


# ---------------------------------------------------------------- what prepare learns


def test_biases_are_those_of_a_plain_computation() -> None:
    rows = ratings(20, 12)
    user, item = (np.array([int(row[n]) for row in rows], np.int32) for n in (0, 1))
    rating = np.array([row[2] for row in rows], np.float32)
    learned = biases(user, item, rating, 20, 12)
    mean = sum(map(float, rating)) / len(rows)
    of_user, of_item = [0.0] * 20, [0.0] * 12
    for _ in range(300):
        for i in range(12):
            above = [r[2] - mean - of_user[int(r[0])] for r in rows if int(r[1]) == i]
            of_item[i] = sum(above) / (len(above) + ITEM_SHRINK)
        for u in range(20):
            above = [r[2] - mean - of_item[int(r[1])] for r in rows if int(r[0]) == u]
            of_user[u] = sum(above) / (len(above) + USER_SHRINK)
    assert learned["mean"][0] == pytest.approx(mean, rel=1e-6)
    np.testing.assert_allclose(learned["user_bias"], of_user, atol=1e-5)
    np.testing.assert_allclose(learned["total"] / (learned["count"] + ITEM_SHRINK), of_item, atol=1e-5)
    assert learned["count"].tolist() == [sum(int(r[1]) == i for r in rows) for i in range(12)]


def test_items_are_near_when_the_same_users_watched_them() -> None:
    rows = ratings(20, 12)
    user, item = (np.array([int(row[n]) for row in rows], np.int32) for n in (0, 1))
    found = vectors(user, item, 20, 13, 4)  # item 12 was never watched
    assert found.shape == (13, 4) and not found[12].any()
    watched = np.zeros((20, 13))
    watched[user, item] = 1
    many = np.maximum(watched.sum(1, keepdims=True), 1) ** -0.5, np.maximum(watched.sum(0), 1) ** -0.5
    _, strength, right = np.linalg.svd(many[0] * watched * many[1])
    wanted = (right[:4].T * strength[:4])[:12]
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(found[:12]), np.abs(wanted), atol=1e-5)  # strongest first
    np.testing.assert_allclose(found[:12] @ found[:12].T, wanted @ wanted.T, atol=1e-5)
    assert vectors(user[:1], item[:1] * 0, 1, 3, 4).shape == (3, 1), "one user says nothing"


def test_prepare_keeps_every_history_and_the_titles(tmp_path: Path, store: Store) -> None:
    made = read(f"csv:{write(tmp_path / 'a.csv', ratings())}", store, Data(split="user", test=0.3))
    histories, known = Histories(made.schema), Catalogue(made.schema)
    assert len(histories.number) == made.counts["train"] == made.schema.fields["users"] < 14
    for row in made.train.rows(range(made.counts["train"])):
        number, history = histories.of(row["item"].partition("/")[2])
        assert number == row["user"]
        for name, values in history.items():
            np.testing.assert_array_equal(values, row[name])
        assert (np.diff(history["times"].astype(int)) >= 0).all()
    assert histories.of("nobody")[0] == histories.of(None)[0] == -1
    assert known.count.sum() == len(pairs(made, "train"))
    empty = Catalogue(Schema(fields={}, assets={"items.arrow": made.schema.assets["items.arrow"]}))
    assert empty.count.tolist() == [0] * len(known)


# ---------------------------------------------------------------- the generated world


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read("synthetic", Store.open(tmp_path_factory.mktemp("synthetic")))


def flat(dataset: Dataset, split: str) -> tuple[np.ndarray[Any, Any], ...]:
    """User number, item and rating of all ratings of a split."""
    rows = getattr(dataset, split).rows(range(len(getattr(dataset, split))))
    users = [np.full(len(row["items"]), int(row["item"].partition("/")[2])) for row in rows]
    return tuple(map(np.concatenate, (users, [r["items"] for r in rows], [r["ratings"] for r in rows])))


def test_biases_miss_what_taste_explains_and_who_knows_all_misses_the_noise(synthetic: Dataset) -> None:
    known, (user, item, rating) = Catalogue(synthetic.schema), flat(synthetic, "test")
    simple = known.mean + known.user_bias[user] + known.item_bias[item]
    assert np.sqrt(np.mean((rating - simple) ** 2)) == pytest.approx(0.81, abs=0.03)
    best = [watched(u, Data(), characters(300))["test"] for u in range(600)]
    expected = np.concatenate([row["best"] for row in best]).astype(np.float64)
    assert np.concatenate([row["ratings"] for row in best]).tolist() == rating.tolist()
    assert np.sqrt(np.mean((rating - expected) ** 2)) == pytest.approx(NOISE, abs=0.02)


def test_genres_say_something_of_taste(synthetic: Dataset) -> None:
    known = Catalogue(synthetic.schema)
    place = {kind: n for n, kind in enumerate(known.kinds)}
    genre = np.array([place[kinds[0]] for kinds in known.genres])
    sums, seen = np.zeros((2, 600, len(place)))
    errors = {}
    for split in ("train", "test"):
        user, item, rating = flat(synthetic, split)
        above = rating - known.mean - known.user_bias[user] - known.item_bias[item]
        if split == "train":
            np.add.at(sums, (user, genre[item]), above)
            np.add.at(seen, (user, genre[item]), 1)
        errors[split] = (
            np.sqrt(np.mean(above**2)),
            np.sqrt(np.mean((above - (sums / (seen + 1))[user, genre[item]]) ** 2)),
        )
    assert errors["test"][1] < 0.9 * errors["test"][0], errors


@pytest.mark.parametrize(
    "data", [Data(users=10), Data(items=40), Data(ratings=600), Data(users=100, ratings=8_000)]
)
def test_a_world_that_cannot_be_is_an_error(data: Data, store: Store) -> None:
    with pytest.raises(DataError, match=r"data.users = .* are needed"):
        read("synthetic", store, data)


@pytest.mark.real_data
def test_movietweetings_is_read_whole(real_data: Path, store: Store) -> None:
    made = read(f"csv:{real_data}/recommender/movietweetings", store)
    train, validation, test = (len(pairs(made, split)) for split in ("train", "validation", "test"))
    assert (train + validation, test) == (48_235, 5_321) and 2_000 < validation < 2_800
    known = Catalogue(made.schema)
    assert len(known) == 2_146 and all(known.titles) and made.schema.fields["users"] == 2_290
    assert made.card["licence"].startswith("The MIT License")
