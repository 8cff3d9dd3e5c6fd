"""File input and output of the core: safetensors, token-bin, atomic writes, locks, faults."""

import errno
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import tempra
from tempra import _core

DTYPES = {
    "f32": np.float32,
    "f16": np.float16,
    "f64": np.float64,
    "i64": np.int64,
    "i32": np.int32,
    "u32": np.uint32,
    "u16": np.uint16,
    "u8": np.uint8,
    "bool": np.bool_,
}


@pytest.fixture(autouse=True)
def _no_fault_remains():
    yield
    _core.clear_write_fault()


def random_array(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.random.default_rng(3).integers(0, 100, shape)
    return (values % 2 if dtype == "bool" else values).astype(DTYPES[dtype])


def all_arrays() -> dict[str, np.ndarray]:
    arrays = {f"block.{name}": random_array(name, (3, 5)) for name in DTYPES}
    arrays["scalar"] = np.array(2.5, np.float32)
    arrays["empty"] = np.zeros((0, 4), np.float32)
    arrays["naïve \n name"] = np.ones(3, np.uint8)
    return arrays


def save(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None):
    tensors = {name: tempra.from_numpy(array) for name, array in arrays.items()}
    return _core.write_safetensors(path, tensors, metadata)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    size, checksum = save(path, all_arrays(), {"format": "pt", "note": "é"})
    assert size == path.stat().st_size
    assert checksum == zlib.crc32(path.read_bytes()) == _core.crc32_file(path)
    tensors, metadata = _core.read_safetensors(path)
    assert metadata == {"format": "pt", "note": "é"}
    assert tensors.keys() == all_arrays().keys()
    for name, array in all_arrays().items():
        found = tensors[name].numpy()
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_safetensors_written_here_is_read_by_the_library(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "m.safetensors"
    save(path, all_arrays(), {"format": "np"})
    found = safetensors.load_file(path)
    assert found.keys() == all_arrays().keys()
    for name, array in all_arrays().items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_safetensors_bytes_equal_the_librarys(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    save(tmp_path / "ours", all_arrays(), {"format": "np"})
    safetensors.save_file(all_arrays(), tmp_path / "theirs", {"format": "np"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    tensors, metadata = _core.read_safetensors(tmp_path / "theirs")
    assert metadata == {"format": "np"}
    np.testing.assert_array_equal(tensors["block.f16"].numpy(), random_array("f16", (3, 5)))


def test_safetensors_bf16_both_ways(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    safetensors = pytest.importorskip("safetensors.numpy")
    values = np.arange(12, dtype=np.float32).reshape(3, 4).astype(ml_dtypes.bfloat16)
    tensor = tempra.from_numpy(values)
    assert tensor.dtype == tempra.bfloat16
    _core.write_safetensors(tmp_path / "ours", {"w": tensor})
    loaded = safetensors.load_file(tmp_path / "ours")["w"]
    np.testing.assert_array_equal(loaded.astype(np.float32), values.astype(np.float32))
    found = _core.read_safetensors(tmp_path / "ours")[0]["w"]
    assert found.dtype == tempra.bfloat16
    np.testing.assert_array_equal(found.numpy().astype(np.float32), values.astype(np.float32))


def test_views_are_written_in_row_major_order(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensor = tempra.from_numpy(array).transpose(0, 1)
    _core.write_safetensors(tmp_path / "m", {"t": tensor})
    np.testing.assert_array_equal(_core.read_safetensors(tmp_path / "m")[0]["t"].numpy(), array.T)


def test_mapped_tensors_outlive_replacement_and_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "m"
    save(path, {"t": np.ones(1000, np.float32)})
    tensor = _core.read_safetensors(path)[0]["t"]
    save(path, {"t": np.zeros(1000, np.float32)})
    assert float(tensor.numpy().sum()) == 1000.0
    assert not tensor.numpy().flags.writeable


def test_unaligned_data_of_other_writers_is_readable(tmp_path: Path) -> None:
    header = b'{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    data = np.array([1.5, -2.0], np.float32).tobytes()
    for padding in range(8):
        padded = header + b" " * padding
        path = tmp_path / str(padding)
        path.write_bytes(len(padded).to_bytes(8, "little") + padded + data)
        assert _core.read_safetensors(path)[0]["t"].tolist() == [1.5, -2.0]


def test_hostile_safetensors_headers_name_file_and_tensor(tmp_path: Path) -> None:
    path = tmp_path / "bad"
    header = b'{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(tempra.FormatError, match=r'bad: tensor "w": shape .* overflows'):
        _core.read_safetensors(path)
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(tempra.FormatError, match="not a safetensors file"):
        _core.read_safetensors(path)
    with pytest.raises(tempra.IoError, match="No such file or directory") as caught:
        _core.read_safetensors(tmp_path / "missing")
    assert caught.value.errno == errno.ENOENT
    assert str(caught.value) == f"open {tmp_path / 'missing'}: No such file or directory"
    assert isinstance(caught.value, OSError)


def error_of_save(path: Path, arrays: dict[str, np.ndarray]) -> tempra.IoError | None:
    try:
        save(path, arrays)
    except tempra.IoError as error:
        return error
    return None


def test_every_failing_operation_of_a_save_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    old, new = {"t": np.zeros(7, np.float32)}, {"t": np.ones(900_000, np.float32)}
    for persistent in (False, True):
        failures = 0
        for after in range(100):
            _core.clear_write_fault()
            save(path, old)
            _core.set_write_fault(after, errno.ENOSPC, short_write=True, persistent=persistent)
            error = error_of_save(path, new)
            if error is None:
                assert _core.write_operation_count() == after
                break
            failures += 1
            assert error.errno == errno.ENOSPC
            assert str(tmp_path) in str(error)
            assert os.listdir(tmp_path) == ["m.safetensors"]
            count = _core.read_safetensors(path)[0]["t"].numel()
            # The folder is synced last, after the rename.
            assert count == 7 or after == 6
        assert failures == 7


@pytest.mark.parametrize("dtype", ["u32", "u16"])
def test_token_bin_round_trip(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "t.bin"
    tokens = np.random.default_rng(0).integers(0, 65536, 10_001)
    with _core.TokenBinWriter(path, dtype) as writer:
        writer.append(tokens[:10])
        writer.append(tokens[10:5000].astype(np.uint16))
        writer.append(tokens[5000:].astype(np.int32))
        writer.append(np.zeros(0, np.int64))
        assert len(writer) == 10_001
    assert path.read_bytes() == tokens.astype(f"<{dtype[0]}{int(dtype[1:]) // 8}").tobytes()
    found = _core.read_token_bin(path, dtype)
    assert found.dtype == DTYPES[dtype]
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, tokens)
    with pytest.raises(tempra.TempraError, match="this writer is finished"):
        writer.append(tokens)


def test_token_bin_finish_reports_size_and_checksum(tmp_path: Path) -> None:
    writer = _core.TokenBinWriter(tmp_path / "t.bin")
    writer.append(np.array([1, 2**32 - 1], np.int64))
    assert not (tmp_path / "t.bin").exists()
    expected = np.array([1, 2**32 - 1], np.uint32).tobytes()
    assert writer.finish() == (8, zlib.crc32(expected))
    assert (tmp_path / "t.bin").read_bytes() == expected


def test_token_bin_errors(tmp_path: Path) -> None:
    path = tmp_path / "t.bin"
    writer = _core.TokenBinWriter(path)
    with pytest.raises(tempra.FormatError, match="negative token -1"):
        writer.append(np.array([3, -1]))
    with pytest.raises(tempra.FormatError, match="token 4294967296 does not fit u32"):
        writer.append(np.array([2**32]))
    with pytest.raises(tempra.DtypeError, match="float64"):
        writer.append(np.array([1.0]))
    with pytest.raises(tempra.FormatError, match="token 65536 at position 1 does not fit u16"):
        _core.TokenBinWriter(path, "u16").append(np.array([1, 65536]))
    writer.discard()
    assert os.listdir(tmp_path) == []
    with pytest.raises(tempra.FormatError), _core.TokenBinWriter(path) as writer:
        writer.append(np.array([-1]))
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"12345")
    with pytest.raises(tempra.FormatError, match="InvalidFormat: 5 bytes are not a whole number"):
        _core.read_token_bin(path)
    with pytest.raises(tempra.DtypeError, match="u32 or u16 needed"):
        _core.read_token_bin(path, "i64")
    path.write_bytes(b"")
    assert _core.read_token_bin(path).shape == (0,)


def test_write_file_atomic(tmp_path: Path) -> None:
    path = tmp_path / "ü file"
    assert _core.write_file_atomic(path, b"abc") == (3, zlib.crc32(b"abc"))
    assert _core.write_file_atomic(str(path), memoryview(bytearray(b"longer"))) == (
        6,
        zlib.crc32(b"longer"),
    )
    assert path.read_bytes() == b"longer"
    _core.write_file_atomic(os.fsencode(path), b"")
    assert path.read_bytes() == b""
    with pytest.raises(TypeError):
        _core.write_file_atomic(path, "text")
    with pytest.raises(tempra.IoError, match="No such file or directory"):
        _core.write_file_atomic(tmp_path / "no" / "such", b"")


def test_publish_directory_replaces_whole_folders(tmp_path: Path) -> None:
    for text in ("one", "two"):
        temporary = tmp_path / "tmp"
        _core.make_directories(temporary / "inner")
        _core.write_file_atomic(temporary / "inner" / "a", text.encode())
        _core.publish_directory(temporary, tmp_path / "step")
        assert os.listdir(tmp_path) == ["step"]
        assert (tmp_path / "step" / "inner" / "a").read_text() == text
    _core.rename_path(tmp_path / "step", tmp_path / "other")
    _core.remove_tree(tmp_path / "other")
    _core.remove_tree(tmp_path / "other")
    assert os.listdir(tmp_path) == []
    assert _core.free_disk_bytes(tmp_path) > 0


def test_temporaries_of_killed_processes_are_removed(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, numpy, tempra\n"
        "writer = tempra._core.TokenBinWriter(sys.argv[1])\n"
        "writer.append(numpy.arange(2_000_000))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "t.bin"
    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert killed.returncode == -9
    assert len(os.listdir(tmp_path)) == 1
    assert not path.exists()
    assert _core.remove_stale_temporaries(tmp_path) == 1
    assert os.listdir(tmp_path) == []


def test_crc32_equals_zlibs() -> None:
    data = np.random.default_rng(1).bytes(100_000)
    for size in (0, 1, 15, 63, 64, 127, 128, 129, 1000, 100_000):
        assert _core.crc32(data[:size]) == zlib.crc32(data[:size])
    assert _core.crc32(data[500:], _core.crc32(data[:500])) == zlib.crc32(data)


def test_file_lock_excludes_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = "import sys, tempra; tempra._core.FileLock(sys.argv[1])"
    command = [sys.executable, "-c", script, str(path)]
    with _core.FileLock(path):
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert other.returncode != 0
        assert "in use by another process" in other.stderr
        with pytest.raises(tempra.IoError, match="in use"):
            _core.FileLock(path)
    assert subprocess.run(command, check=False).returncode == 0


def test_memory_figures() -> None:
    before = _core.resident_bytes()
    block = np.ones(64 << 20, np.uint8)
    assert _core.resident_bytes() - before > 32 << 20
    assert _core.peak_resident_bytes() >= _core.resident_bytes() - (1 << 20)
    assert _core.available_memory_bytes() > 0
    assert block[-1] == 1
