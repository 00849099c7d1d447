"""Tables of pairs: written whole, resumed, verified."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot.couplings import table
from aeot_jax.storage import documents, locks

D, B, N, SHARD = 2, 64, 10_000, 3000
MU = aeot.Gaussian(D)
Y = np.random.default_rng(0).normal(size=(40, D)) + 1.0
H = -(Y**2).sum(1) / 4
C = aeot.coupling(MU, Y, H, batch_size=B)


@pytest.fixture(scope="module")
def made():
    return C.table(N, shard_size=SHARD)


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_table_holds_the_pairs_of_the_batches(made):
    assert len(made) == N
    assert repr(made) == "Table(10,000 draws in 4 shards)"
    j, index = made[:]
    np.testing.assert_array_equal(j, np.arange(N))
    assert (j.dtype, index.dtype) == (np.uint64, np.int32)
    for k in (0, 46, N // B - 1):
        np.testing.assert_array_equal(index[k * B : (k + 1) * B], C[k].index)
    np.testing.assert_array_equal(C.table(N)[:], made[:])


def test_rows_give_noise_and_targets_without_a_product(made):
    rows = np.array([5, 9999, 2999, 3000, -1])
    j, index = made[rows]
    np.testing.assert_array_equal(j, [5, 9999, 2999, 3000, 9999])
    np.testing.assert_array_equal(aeot.assign(C.noise(j), Y, H)[1], index)
    assert made[3000] == (3000, int(index[3]))
    assert made[-N] == made[0]
    np.testing.assert_array_equal(made[2:7:2][0], [2, 4, 6])


def test_numbers_beyond_32_bits_are_counted_from_their_shard():
    shard = np.array([[5, 1], [6, 2]], np.uint32)
    far = table.Table((*[shard[:0]] * 2**11, shard), 2**22)
    assert far[2**33 + 1] == (2**33 + 6, 2)
    assert len(far) == 2**33 + 2


def test_a_table_on_disk_is_the_same_and_is_kept(made, tmp_path):
    found = C.table(N, tmp_path / "t", shard_size=SHARD)
    np.testing.assert_array_equal(found[:], made[:])
    assert all(isinstance(shard, np.memmap) for shard in found.shards)
    before = written(tmp_path / "t")
    assert list(before) == [*(f"{s:08}.npy" for s in range(4)), "table.json"]

    def never(first: int, count: int) -> np.ndarray:
        raise AssertionError((first, count))

    again = table.in_folder(tmp_path / "t", N, SHARD, _identity(), never)
    np.testing.assert_array_equal(again[:], made[:])
    assert written(tmp_path / "t") == before


def _identity() -> dict[str, int]:
    return {"seed": 0, "antithetic": 0, "solution": C.state(0)["solution"]}


def test_a_finished_table_is_read_from_a_folder_that_cannot_be_written(made, tmp_path, monkeypatch):
    folder = tmp_path / "t"
    C.table(N, folder, shard_size=SHARD)
    before = written(folder)

    def refused(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(locks.os, "open", refused)
    monkeypatch.setattr(table.os, "access", lambda *_: False)
    for n in (N, SHARD, 10):
        np.testing.assert_array_equal(C.table(n, folder, shard_size=SHARD)[:][1], made[:][1][:n])
    assert written(folder) == before
    with pytest.raises(
        OSError, match=r"^`path` .* cannot be written \(Permission denied\); choose"
    ):
        C.table(N + 1, folder, shard_size=SHARD)
    with pytest.raises(ValueError, match="table of another coupling: its seed is 0, not 1"):
        aeot.coupling(MU, Y, H, seed=1).table(N, folder, shard_size=SHARD)
    monkeypatch.undo()
    (folder / "00000001.npy").write_bytes(b"")
    monkeypatch.setattr(locks.os, "open", refused)
    monkeypatch.setattr(table.os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="holds a damaged table"):
        C.table(N, folder, shard_size=SHARD)


def test_a_table_that_was_cut_off_goes_on(made, tmp_path):
    calls = []

    def cut_off(first: int, count: int) -> np.ndarray:
        calls.append(first)
        if first >= 2 * SHARD:
            raise KeyboardInterrupt
        return made[first : first + count][1]

    with pytest.raises(KeyboardInterrupt):
        table.in_folder(tmp_path, N, SHARD, _identity(), cut_off)
    assert list(written(tmp_path)) == ["00000000.npy", "00000001.npy", "table.json"]
    (tmp_path / "00000002.npy").write_bytes(b"not named yet")
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        table.in_folder(tmp_path, N, SHARD, _identity(), cut_off)
    assert calls == [2 * SHARD]
    np.testing.assert_array_equal(C.table(N, tmp_path, shard_size=SHARD)[:], made[:])


def test_more_or_fewer_draws_keep_what_is_there(made, tmp_path):
    C.table(4000, tmp_path, shard_size=SHARD)
    first = written(tmp_path)["00000000.npy"]
    np.testing.assert_array_equal(C.table(N, tmp_path, shard_size=SHARD)[:], made[:])
    assert written(tmp_path)["00000000.npy"] == first
    before = written(tmp_path)
    few = C.table(4000, tmp_path, shard_size=SHARD)
    np.testing.assert_array_equal(few[:], made[:4000])
    assert written(tmp_path) == before


def test_a_table_cut_off_while_a_shard_grows_goes_on(tmp_path, monkeypatch):
    C.table(50, tmp_path, shard_size=SHARD)
    wanted, write = C.table(90), documents.write
    heads = []

    def killed(path, content):
        heads.append(content)
        if len(heads) == 2:  # the longer shard is in its place, its checksum is not
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(documents, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            C.table(90, tmp_path, shard_size=SHARD)
    np.testing.assert_array_equal(C.table(50, tmp_path, shard_size=SHARD)[:], C.table(50)[:])
    np.testing.assert_array_equal(C.table(90, tmp_path, shard_size=SHARD)[:], wanted[:])


def test_no_rows_have_no_noise(made):
    none = np.zeros(0, np.int64)
    j, _ = made[none]
    assert C.noise(j).shape == C.noise(none).shape == (0, D)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def resealed(path: Path) -> None:
    """Damage whose checksum is right."""
    content = json.loads(path.read_text())
    del content["sha256"]
    content["shards"] = [{"rows": 17, "sha256": 3}, {}]
    documents.write(path, content)


@pytest.mark.parametrize("name", ["00000001.npy", "table.json"])
@pytest.mark.parametrize("damage", [truncated, flipped, emptied, Path.unlink, resealed])
def test_damage_is_one_sentence(name, damage, tmp_path):
    if (name, damage) in (("table.json", Path.unlink), ("00000001.npy", resealed)):
        return  # a table without its head is begun again; a shard has no seal
    C.table(4000, tmp_path, shard_size=SHARD)
    damage(tmp_path / name)
    with pytest.raises(
        ValueError, match=r"^`path` .* holds a damaged table: .* remove the"
    ) as told:
        C.table(4000, tmp_path, shard_size=SHARD)
    assert "\n" not in str(told.value)


def test_the_table_of_another_coupling_is_refused(tmp_path):
    C.table(100, tmp_path)
    others = {
        "seed": aeot.coupling(MU, Y, H, seed=1),
        "antithetic": aeot.coupling(MU, Y, H, antithetic=True),
        "solution": aeot.coupling(MU, Y + 1, H),
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=f"holds a table of another coupling: its {name} is"):
            other.table(100, tmp_path)
    with pytest.raises(ValueError, match=r"its shard_size is 1048576, not 5; pass another folder"):
        C.table(100, tmp_path, shard_size=5)
    same = aeot.coupling(MU, Y, H, batch_size=7, dtype="float16")
    np.testing.assert_array_equal(same.table(100, tmp_path)[:], C.table(100)[:])


def test_rows_beyond_a_table_and_other_mistakes_are_named(made, tmp_path):
    for rows in (N, -N - 1, np.array([3, N])):
        with pytest.raises(
            IndexError, match=r"^`rows` has .*, but the table has 10,000 rows; pass"
        ):
            made[rows]
    for rows in (0.5, "0", np.array([0.5]), np.zeros((2, 2), int), None):
        with pytest.raises(ValueError, match=r"^`rows` is"):
            made[rows]
    sizes: tuple[Any, ...] = (0, -1, 2.0, "3", 2**64)
    for n in sizes:
        with pytest.raises(ValueError, match=r"^`n` is"):
            C.table(n)
    with pytest.raises(ValueError, match=r"^`shard_size` is 0"):
        C.table(3, shard_size=0)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"which is a file; pass a folder"):
        C.table(3, tmp_path / "file")
    with pytest.raises(TypeError, match=r"^`path` is 3"):
        C.table(3, 3)  # pyright: ignore[reportArgumentType]
