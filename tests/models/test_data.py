"""Corpora, tokenizer, split and batches."""

import numpy as np
import pytest

from gradtape.models.data import Batches, CharTokenizer, DataError, load_text, manual, shakespeare, split, windows


def test_the_manual_is_there_and_stays_the_same():
    text = manual()
    assert len(text) > 300_000 and text == manual()
    assert 80 < len(set(text)) < 150


def test_encode_and_decode_are_inverse():
    text = "héllo\nworld ✓"
    tokenizer = CharTokenizer.of(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(text).dtype == np.int64
    assert CharTokenizer(tokenizer.characters).characters == "".join(sorted(set(text)))


def test_an_unknown_character_is_named_with_its_place():
    with pytest.raises(DataError, match="'z' at position 2"):
        CharTokenizer.of("abc").encode("abz")


def test_split_leaks_nothing_and_loses_nothing():
    tokens = np.arange(1000)
    train, val = split(tokens, 16)
    assert len(val) == 100
    np.testing.assert_array_equal(np.concatenate([train, val]), tokens)


@pytest.mark.parametrize("size", [0, 5, 100])
def test_a_tiny_corpus_says_how_much_is_needed(size):
    with pytest.raises(DataError, match=f"{size} characters; with context 64 it needs at least 651"):
        split(np.zeros(size, np.int64), 64)


def test_targets_are_shifted_by_one_and_batches_are_a_function_of_seed_and_index():
    batches = Batches(np.arange(500), batch=8, context=16, seed=3)
    x, y = batches[7]
    assert x.shape == y.shape == (8, 16)
    np.testing.assert_array_equal(x + 1, y)
    np.testing.assert_array_equal(Batches(np.arange(500), 8, 16, 3)[7][0], x)
    assert not np.array_equal(batches[8][0], x)
    assert not np.array_equal(Batches(np.arange(500), 8, 16, 4)[7][0], x)


def test_every_position_is_reachable():
    batches = Batches(np.arange(20), batch=16, context=4, seed=0)
    starts = {int(s) for i in range(60) for s in batches[i][0][:, 0]}
    assert starts == set(range(16))  # the last window ends with the last token as a target


@pytest.mark.parametrize("count", [17, 33, 100, 101])
def test_validation_reads_every_token_once(count):
    tokens = np.arange(count)
    parts = list(windows(tokens, batch=2, context=8))
    targets = np.concatenate([y.reshape(-1) for _, y in parts])
    np.testing.assert_array_equal(targets, tokens[1:])
    assert all(np.array_equal(x + 1, y) for x, y in parts)


def test_files(tmp_path):
    good, bad, missing = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c.txt"
    good.write_bytes("\ufeffün\r\nx".encode())
    bad.write_bytes(b"abc\xff")
    assert load_text(str(good)) == "ün\nx"
    with pytest.raises(DataError, match="not UTF-8: byte 0xff at offset 3"):
        load_text(str(bad))
    with pytest.raises(DataError, match=r"cannot read .*c\.txt"):
        load_text(str(missing))


def test_shakespeare_without_a_network_says_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADTAPE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("gradtape.models.data.SHAKESPEARE_URL", "http://127.0.0.1:9/nothing")
    with pytest.raises(DataError, match=f"put the file at {tmp_path}"):
        shakespeare()
    assert list(tmp_path.iterdir()) == []


def test_a_changed_shakespeare_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADTAPE_DATA_DIR", str(tmp_path))
    (tmp_path / "tinyshakespeare.txt").write_text("something else")
    with pytest.raises(DataError, match="SHA-256 differs"):
        shakespeare()


def test_shakespeare_is_read_from_the_cache(tmp_path, monkeypatch, tinyshakespeare):
    monkeypatch.setenv("GRADTAPE_DATA_DIR", str(tmp_path))
    (tmp_path / "tinyshakespeare.txt").write_bytes(tinyshakespeare.read_bytes())
    assert shakespeare().startswith("First Citizen:")
