"""Records that are whole or absent, whatever the writer met."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from penstock.errors import StoreError
from penstock.journal import Journal


def test_what_was_appended_is_read_and_a_torn_line_is_cut(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "ledger.jsonl")
    assert journal.read() == []
    journal.append({"a": 1})
    journal.append({"b": [1.5, None]})
    whole = journal.path.read_bytes()
    for torn in (b"{", b'{"c": 2}', b'{"c": "' + b"x" * 200_000):
        journal.path.write_bytes(whole + torn)
        assert journal.read() == [{"a": 1}, {"b": [1.5, None]}]
    journal.append({"c": 3})
    assert journal.read() == [{"a": 1}, {"b": [1.5, None]}, {"c": 3}]


def test_a_writer_killed_in_its_first_line_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "ledger.jsonl")
    journal.path.write_bytes(b'{"a"')
    assert journal.read() == []
    journal.append({"b": 1})
    assert journal.read() == [{"b": 1}]


def test_a_damaged_record_is_said_in_one_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "ledger.jsonl")
    journal.path.write_bytes(b"not JSON\n")
    with pytest.raises(StoreError, match=r"ledger\.jsonl is damaged"):
        journal.read()


def test_a_full_disk_leaves_the_records_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "ledger.jsonl")
    journal.append({"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="disk full"):
            journal.append({"b": 2})
    assert journal.read() == [{"a": 1}]
    journal.append({"c": 3})
    assert journal.read() == [{"a": 1}, {"c": 3}]
