"""JSON with a seal: no change goes unseen."""

import json
import math

import pytest

from aeot_jax.storage import documents

CONTENT = {"name": "é", "n": 3, "x": 0.1, "none": None, "list": [1, {"a": True}], "large": 1e300}


@pytest.fixture
def path(tmp_path):
    documents.write(tmp_path / "a.json", CONTENT)
    return tmp_path / "a.json"


def test_what_is_written_is_read(path):
    found = documents.read(path)
    assert found.pop(documents.SEAL)
    assert found == CONTENT
    assert list(json.loads(path.read_text())) == [*CONTENT, documents.SEAL]


def test_numbers_that_are_not_finite_become_null(path):
    documents.write(path, {"a": math.nan, "b": [math.inf, -math.inf], "c": {1: 2.0}})
    found = documents.read(path)
    assert (found["a"], found["b"], found["c"]) == (None, [None, None], {"1": 2.0})


def test_no_change_of_a_byte_goes_unseen(path):
    whole = path.read_bytes()
    for i in range(len(whole)):
        for bit in (1, 4, 32):
            path.write_bytes(whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :])
            try:
                found = documents.read(path)
            except ValueError:
                continue
            # Space between the entries carries nothing; a seal that lost its name is none.
            assert found == {**CONTENT, documents.SEAL: found.get(documents.SEAL)} or (
                documents.SEAL not in found
            )


def test_files_of_earlier_versions_have_no_seal(path):
    path.write_text(json.dumps(CONTENT))
    assert documents.read(path) == CONTENT


def test_names_that_are_no_unicode_survive(path):
    documents.write(path, {"path": "/data/\udcff"})
    assert documents.read(path)["path"] == "/data/\udcff"


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, '{"a": ' * 100_000])
def test_what_is_no_object_is_refused(path, text):
    path.write_text(text)
    with pytest.raises(ValueError, match=r"Expecting|nested|no object"):
        documents.read(path)


def test_a_file_without_end_is_not_read(path):
    path.write_bytes(b" " * (2**24 + 1))
    with pytest.raises(ValueError, match="more than 16,777,216 bytes"):
        documents.read(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    with pytest.raises(ValueError, match="it is a folder, not a file"):
        documents.read(tmp_path)
