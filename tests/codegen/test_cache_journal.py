"""The journal of the translation cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen.cache_journal import Journal


def test_journal_round_trip(tmp_path: Path) -> None:
    writer = Journal(str(tmp_path / "j"), writable=True)
    reader = Journal(str(tmp_path / "j"), writable=False)
    news = [reader.has_news]
    records = [["a", 1, b"\0" * 40], ["b", []]]
    writer.append(records)
    news.append(reader.has_news)
    assert reader.read() == records
    news.append(reader.has_news)
    assert news == [False, True, False]
    assert reader.read() == []
    writer.read()
    writer.append([["c"]])
    assert reader.read() == [["c"]]
    for journal in (reader, writer):
        journal.close()
    with pytest.raises(OSError):
        Journal(str(tmp_path / "missing"), writable=False)
