"""Checkpoints survive flipped bits, cut files, failing writes and full disks."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tempra import _core
from tempra._core import CheckpointError
from tempra.checkpoint import (
    Checkpoint,
    CheckpointStore,
    find_checkpoints,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    verify_folder,
)

FILES = [
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "config.json",
    "config.yaml",
    "tokenizer.json",
    "manifest.json",
]


@pytest.fixture(autouse=True)
def no_fault_left() -> Iterator[None]:
    yield
    _core.clear_write_fault()


def make(step: int, seed: int | None = None) -> Checkpoint:
    generator = np.random.default_rng(step if seed is None else seed)
    return Checkpoint(
        step=step,
        model={
            "layer.weight": _core.from_numpy(generator.normal(size=(7, 5)).astype(np.float32)),
            "layer.bias": _core.from_numpy(generator.normal(size=5).astype(np.float32)),
        },
        optimizer={"first_moment.layer.bias": _core.from_numpy(np.ones(5, np.float32))},
        state={"step": step, "loss": 0.1 + step, "text": "ünï", "none": None, "list": [1, 2]},
        model_config={"model_type": "gpt2"},
        run_config="train:\n  steps: 10\n",
        tokenizer_files={"tokenizer.json": b"{}"},
    )


def same(loaded: Checkpoint, expected: Checkpoint) -> bool:
    def bits(tensors: dict[str, _core.Tensor]) -> dict[str, bytes]:
        return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}

    return (
        loaded.step == expected.step
        and bits(loaded.model) == bits(expected.model)
        and bits(loaded.optimizer) == bits(expected.optimizer)
        and loaded.state == expected.state
        and loaded.model_config == expected.model_config
        and loaded.run_config == expected.run_config
        and loaded.tokenizer_files == expected.tokenizer_files
    )


def temporaries(root: Path) -> list[str]:
    return [name for name in os.listdir(root) if ".tmp" in name or name.endswith(".replaced")]


def test_roundtrip(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, make(1000))
    assert folder.name == "step-00001000"
    assert sorted(os.listdir(folder)) == sorted(FILES)
    assert same(load_checkpoint(folder), make(1000))
    assert same(load_checkpoint(tmp_path), make(1000))
    assert not temporaries(tmp_path)


def test_save_load_save_is_byte_identical(tmp_path: Path) -> None:
    first = save_checkpoint(tmp_path / "a", make(3))
    second = save_checkpoint(tmp_path / "b", load_checkpoint(first))
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_step_zero_and_beyond_eight_digits_are_ordered(tmp_path: Path) -> None:
    for step in (0, 5, 200_000_000):
        save_checkpoint(tmp_path, make(step))
    assert [path.name for path in find_checkpoints(tmp_path)] == [
        "step-200000000",
        "step-00000005",
        "step-00000000",
    ]
    assert load_checkpoint(tmp_path).step == 200_000_000


def flip_bits(path: Path) -> Iterator[str]:
    """Flip one bit at a time over the whole file (at most 64 places), restoring it after each."""
    original = path.read_bytes()
    for place in sorted({round(i * (len(original) - 1) / 63) for i in range(64)}):
        damaged = bytearray(original)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(damaged))
        yield f"byte {place}"
    path.write_bytes(original)


@pytest.mark.parametrize("name", FILES)
def test_flipped_bit_falls_back_and_names_the_file(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path, make(1))
    bad = save_checkpoint(tmp_path, make(2)) / name
    for where in flip_bits(bad):
        loaded = load_checkpoint(tmp_path)
        assert same(loaded, make(1)), where
        assert len(loaded.notes) == 1, where
        assert str(bad.parent) in loaded.notes[0], where
        if name != "manifest.json":
            assert str(bad) in loaded.notes[0], where
    assert load_checkpoint(tmp_path).notes == []


def test_no_flipped_bit_of_the_manifest_goes_unseen(tmp_path: Path) -> None:
    """Not even one in white space, in a file's name or in the digits of a checksum."""
    path = save_checkpoint(tmp_path, make(2)) / "manifest.json"
    original = path.read_bytes()
    for place in range(len(original)):
        damaged = bytearray(original)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(damaged))
        with pytest.raises(CheckpointError):
            verify_folder(path.parent)


def test_folder_is_published_whole_by_the_file_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which flushes and renames it, and which the failing writes below reach."""
    published: list[tuple[str, set[str]]] = []
    publish = _core.publish_directory

    def spy(temporary: str, final: str) -> None:
        published.append((final, set(os.listdir(temporary))))
        assert not os.path.exists(final)
        publish(temporary, final)
        assert set(os.listdir(final)) == set(FILES)

    monkeypatch.setattr(_core, "publish_directory", spy)
    folder = save_checkpoint(tmp_path, make(1))
    assert published == [(str(folder), set(FILES))]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_cut_or_missing_file_falls_back(tmp_path: Path, name: str, kept: float) -> None:
    save_checkpoint(tmp_path, make(1))
    bad = save_checkpoint(tmp_path, make(2)) / name
    content = bad.read_bytes()
    if kept == 1.0:
        bad.unlink()
    else:
        bad.write_bytes(content[: int(len(content) * kept)])
    loaded = load_checkpoint(tmp_path)
    assert same(loaded, make(1))
    assert str(bad) in loaded.notes[0]


def test_named_damaged_checkpoint_is_refused_with_the_newest_good_one(tmp_path: Path) -> None:
    good = save_checkpoint(tmp_path, make(1))
    bad = save_checkpoint(tmp_path, make(2))
    (bad / "state.json").write_bytes(b"{}")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(bad)
    assert "state.json" in str(caught.value)
    assert str(good) in str(caught.value)


def test_all_damaged_lists_every_reason(tmp_path: Path) -> None:
    for step in (1, 2):
        (save_checkpoint(tmp_path, make(step)) / "config.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"step-00000002.*step-00000001"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "damaged"),
        ({"format": 2}, "format 2"),
        ({"format": 1, "step": -1, "files": {}}, "step -1"),
        ({"format": 1, "step": True, "files": {}}, "step True"),
        ({"format": 1, "step": 2, "files": {}}, "not listed"),
        ({"format": 1, "step": 2, "files": {"../evil": {"size": 1, "crc32": "0"}}}, "leave"),
        ({"format": 1, "step": 2, "files": {"/etc/passwd": {"size": 1, "crc32": "0"}}}, "leave"),
        ({"format": 1, "step": 2, "files": {"a": {"size": -1, "crc32": "0"}}}, "size"),
        ({"format": 1, "step": 2, "files": {"a": 5}}, "damaged"),
    ],
)
def test_hostile_manifest_is_refused(tmp_path: Path, document: object, reason: str) -> None:
    folder = save_checkpoint(tmp_path, make(2))
    (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=reason):
        verify_folder(folder)


def test_manifest_of_another_step_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, make(2))
    renamed = folder.rename(tmp_path / "step-00000007")
    with pytest.raises(CheckpointError, match="is of step 2"):
        verify_folder(renamed)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_checkpoint(tmp_path)


def test_state_that_json_cannot_hold_is_refused_before_writing(tmp_path: Path) -> None:
    checkpoint = make(1)
    checkpoint.state["loss"] = float("nan")
    with pytest.raises(CheckpointError, match="state cannot be written"):
        save_checkpoint(tmp_path, checkpoint)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "model.safetensors"])
def test_unsafe_tokenizer_file_name_is_refused(tmp_path: Path, name: str) -> None:
    checkpoint = make(1)
    checkpoint.tokenizer_files = {name: b""}
    with pytest.raises(CheckpointError, match="tokenizer file name"):
        save_checkpoint(tmp_path, checkpoint)


def count_operations(tmp_path: Path, existing: bool) -> int:
    store = CheckpointStore(tmp_path / "count", keep_last=1)
    store.save(make(1))
    if existing:
        store.save(make(2, seed=9))
    before = _core.write_operation_count()
    store.save(make(2), is_best=True)
    return _core.write_operation_count() - before


@pytest.mark.parametrize("existing", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize(
    ("error_number", "short_write", "persistent"),
    [(errno.ENOSPC, True, True), (errno.EIO, False, False)],
    ids=["full", "broken"],
)
def test_every_failing_write_leaves_a_good_checkpoint(
    tmp_path: Path, error_number: int, short_write: bool, persistent: bool, existing: bool
) -> None:
    operations = count_operations(tmp_path, existing)
    assert operations > 20  # every file is created, written, flushed and renamed
    for index in range(operations):
        root = tmp_path / f"at-{index}"
        store = CheckpointStore(root, keep_last=1)
        store.save(make(1))
        if existing:
            store.save(make(2, seed=9))
        before = load_checkpoint(root)
        _core.set_write_fault(index, error_number, short_write, persistent)
        with pytest.raises(CheckpointError, match=re.escape(os.strerror(error_number))):
            store.save(make(2), is_best=True)
        _core.clear_write_fault()
        loaded = load_checkpoint(root)
        assert loaded.notes == [], index
        assert same(loaded, make(2)) or same(loaded, before), index

        assert store.save(make(3)) == store.folder(3)
        assert same(load_checkpoint(root), make(3))
        assert not temporaries(root), index


def test_disk_space_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, make(1))
    monkeypatch.setattr(_core, "free_disk_bytes", lambda path: 1000)
    before = _core.write_operation_count()
    with pytest.raises(CheckpointError, match=r"needs .* MB, but .* MB free"):
        save_checkpoint(tmp_path, make(2))
    assert _core.write_operation_count() == before
    assert same(load_checkpoint(tmp_path), make(1))


def test_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        save_checkpoint(tmp_path / "file" / "root", make(1))


def test_a_failed_save_says_which_checkpoint_is_left(tmp_path: Path) -> None:
    def failure(step: int) -> str:
        _core.set_write_fault(2, errno.ENOSPC, False, True)
        try:
            with pytest.raises(CheckpointError) as caught:
                save_checkpoint(tmp_path, make(step))
        finally:
            _core.clear_write_fault()
        return str(caught.value)

    assert failure(0).endswith("; no other checkpoint is there")
    save_checkpoint(tmp_path, make(1))
    assert failure(2).endswith(f"; {tmp_path / 'step-00000001'} is untouched")


@pytest.mark.parametrize("moved_first", [False, True])
def test_replaced_folder_is_recognised_and_settled(tmp_path: Path, moved_first: bool) -> None:
    """A crash between the two renames of a replacement loses nothing."""
    folder = save_checkpoint(tmp_path, make(5))
    folder.rename(tmp_path / "step-00000005.replaced")
    if not moved_first:
        save_folder = save_checkpoint(tmp_path / "other", make(5, seed=8))
        save_folder.rename(folder)
    expected = make(5) if moved_first else make(5, seed=8)
    assert same(load_checkpoint(tmp_path), expected)
    assert same(load_checkpoint(folder), expected)
    save_checkpoint(tmp_path, make(6))
    assert not temporaries(tmp_path)
    assert same(load_checkpoint(folder), expected)


def test_stale_temporaries_are_cleaned(tmp_path: Path) -> None:
    stale = tmp_path / ".step-00000004.tmp-12345"
    stale.mkdir(parents=True)
    (stale / "model.safetensors").write_bytes(b"half")
    save_checkpoint(tmp_path, make(5))
    assert not temporaries(tmp_path)


def test_retention_keeps_newest_and_best(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=2)
    for step in range(1, 7):
        store.save(make(step), is_best=step == 2)
    assert store.steps() == [2, 5, 6]
    assert store.latest() == 6
    assert store.best() == 2
    assert same(store.load(2), make(2))
    assert same(store.load(), make(6))


def test_pointers_are_never_trusted(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(make(1))
    for content in (b"../../etc", b"\xff\xfe", b"step-99999999\n", b"", b"step-1"):
        (tmp_path / "latest").write_bytes(content)
        (tmp_path / "best").write_bytes(content)
        assert store.load().step == 1
        store.best()
        store.save(make(1))


def test_rewind_sets_later_checkpoints_aside(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=5)
    for step in (1, 2, 3):
        store.save(make(step), is_best=step == 3)
    moved = store.rewind(1, best_step=None)
    assert [path.name for path in moved] == [
        "step-00000003.set-aside-1",
        "step-00000002.set-aside-1",
    ]
    assert store.steps() == [1]
    assert store.latest() == 1
    assert store.best() is None
    store.save(make(2))
    assert store.rewind(1)[0].name == "step-00000002.set-aside-2"
    verify_folder(tmp_path / "step-00000002.set-aside-1")


def test_background_save_writes_the_snapshot(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    checkpoint = make(1)
    store.save(checkpoint, asynchronous=True)
    for tensor in checkpoint.model.values():
        tensor.numpy()[...] = 0
    checkpoint.state["step"] = -1
    store.finish()
    assert same(load_checkpoint(tmp_path), make(1))


def test_background_failure_surfaces_at_finish_and_at_the_next_save(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for surface in (store.finish, lambda: store.save(make(3))):
        _core.set_write_fault(3, errno.ENOSPC, False)
        store.save(make(2), asynchronous=True)
        with pytest.raises(CheckpointError, match="No space left"):
            surface()
        _core.clear_write_fault()
        store.finish()  # told once
    store.save(make(3), asynchronous=True)
    store.finish()
    assert same(load_checkpoint(tmp_path), make(3))


def test_weights_of_a_plain_folder(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "run" / "checkpoints", make(1))
    for source in (folder, tmp_path / "run"):
        weights, config = load_weights(source)
        assert set(weights) == {"layer.weight", "layer.bias"}
        assert config["model_type"] == "gpt2"
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    weights, config = load_weights(plain)
    assert set(weights) == {"layer.weight", "layer.bias"}
    assert config == {}
