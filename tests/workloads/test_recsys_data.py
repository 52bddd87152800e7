"""Recsys: files of ratings to rows, titles, and what is said of files that cannot be used."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.errors import ConfigError, DataError
from penstock.store import Store
from tests.ratings import HEADER, Rating, everything, pairs, ratings, read, write
from workloads.recsys.catalogue import Catalogue, Histories
from workloads.recsys.columns import NAMES
from workloads.recsys.config import Config, Data, Net
from workloads.recsys.data import Csv
from workloads.recsys.model import build
from workloads.recsys.values import ids

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
    "odd",
    [
        "0",
        "7",
        "007",
        "00",
        "+7",
        "-7",
        " 7",
        "7 ",
        "7.0",
        "0x7",
        "9223372036854775808",
        "999999999999999999",
    ],
)
def test_whole_numbers_are_ids_like_any_other(odd: str) -> None:
    column = pa.chunked_array([[b"12", odd.encode()], [None, b"12", b"10"]], pa.binary())
    faults: dict[int, str] = {}
    found = ids(column, "user", faults)
    assert found.dictionary_decode().to_pylist() == ["12", odd, None, "12", "10"] and faults == {2: "no user"}


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
