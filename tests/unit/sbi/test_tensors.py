"""Model files: what is valid, what fits the global model, and that a file comes out as it went in."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sbi.tensors import (
    MAX_HEADER,
    InvalidTensors,
    TensorFile,
    TensorWriter,
    check_finite,
    check_update,
    describe,
    dump,
    load,
    read,
    write,
)

MODEL = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bias": np.array([0.5, -0.5], np.float64),
    "half": np.ones(3, np.float16),
    "steps": np.array(7),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float32),
}


def stored(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> TensorFile:
    """`arrays` written by the safetensors library itself, described by ours."""
    save_file(arrays, path, metadata)
    return describe(path)


def raw(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file put together by hand, valid or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def f32(start: int, stop: int, shape: Any = (1,)) -> dict[str, Any]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [start, stop]}


def test_describe_gives_the_bytes_of_every_tensor(tmp_path):
    """The offsets are the tensor's own bytes, whatever its dtype and shape."""
    path = tmp_path / "model"
    file = stored(path, MODEL, {"aimle.round": "3"})
    content = path.read_bytes()
    assert file.metadata == {"aimle.round": "3"}
    assert {name: content[spec.start : spec.stop] for name, spec in file.tensors.items()} == {
        name: array.tobytes() for name, array in MODEL.items()
    }
    assert {name: spec.shape for name, spec in file.tensors.items()} == {
        name: array.shape for name, array in MODEL.items()
    }


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        pytest.param({"a": f32(0, 4)}, b"\0" * 3, "not fully covered", id="cut short"),
        pytest.param({"a": f32(0, 4)}, b"\0" * 5, "not fully covered", id="bytes of no tensor"),
        pytest.param({"a": f32(0, 4), "b": f32(8, 12)}, b"\0" * 12, "invalid offset", id="hole"),
        pytest.param({"a": f32(0, 4), "b": f32(0, 4)}, b"\0" * 4, "invalid offset", id="overlap"),
        pytest.param({"a": f32(0, 4, (2,))}, b"\0" * 4, "not a valid safetensors file", id="wrong size"),
        pytest.param({"a": f32(0, 4, (2**40, 2**40))}, b"\0" * 4, "overflow", id="shape overflows"),
        pytest.param({"a": f32(0, 4) | {"dtype": "X9"}}, b"\0" * 4, "unknown variant", id="unknown dtype"),
        pytest.param({"__metadata__": {"a": 1}}, b"", "expected a string", id="metadata not strings"),
        pytest.param(b"pickle", b"", "not a valid safetensors file", id="not JSON"),
        pytest.param(b"[]", b"", "not a valid safetensors file", id="not an object"),
        pytest.param(
            b'{"a":%s,"a":%s}' % ((json.dumps(f32(0, 4)).encode(),) * 2), b"\0" * 4, "twice", id="twice"
        ),
    ],
)
def test_an_invalid_file_is_refused_with_its_reason(tmp_path, header, data, reason):
    """Nothing but a complete, exact safetensors file is accepted, and the error says what is wrong."""
    with pytest.raises(InvalidTensors, match=reason):
        describe(raw(tmp_path / "file", header, data))


@pytest.mark.parametrize("length", [MAX_HEADER + 1, 2**63])
def test_a_header_beyond_the_bound_is_not_read(tmp_path, length):
    """The length that a file claims never decides how much memory is taken."""
    with pytest.raises(InvalidTensors, match="at most"):
        describe(raw(tmp_path / "file", {}, length=length))


@pytest.mark.parametrize("content", [b"", b"\x02\0\0\0"])
def test_a_file_shorter_than_its_length_prefix_is_refused(tmp_path, content):
    """An empty or tiny file is an invalid model, not a crash."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InvalidTensors, match="shorter"):
        describe(path)


def test_an_update_may_order_its_tensors_as_it_likes(tmp_path):
    """Equality is by name: the order of the bytes is the writer's affair."""
    one = describe(raw(tmp_path / "one", {"a": f32(0, 4), "b": f32(4, 8)}, b"\0" * 8))
    other = describe(raw(tmp_path / "other", {"b": f32(0, 4), "a": f32(4, 8)}, b"\0" * 8))
    check_update(other, one)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"weight": np.zeros((3, 2), np.float32)},
            r"'weight' is F32 \[3, 2\], the global model's is F32 \[2, 3\]",
        ),
        (
            {"weight": np.zeros((2, 3), np.float64)},
            r"'weight' is F64 \[2, 3\], the global model's is F32 \[2, 3\]",
        ),
        ({"weight": None}, "'weight' is missing"),
        ({"other": np.zeros(1, np.float32)}, "'other' is not in the global model"),
    ],
)
def test_an_update_of_another_model_is_refused(tmp_path, change, reason):
    """Names, shapes and dtypes must be the global model's; the error names the tensor and both sides."""
    reference = stored(tmp_path / "global", MODEL)
    arrays = {name: array for name, array in {**MODEL, **change}.items() if array is not None}
    with pytest.raises(InvalidTensors, match=reason):
        check_update(stored(tmp_path / "update", arrays), reference)


def test_a_dtype_that_cannot_be_averaged_is_named(tmp_path):
    """F8 is valid safetensors and still no model that this server can average; BF16 is for updates only."""
    for dtype, size in (("F8_E4M3", 1), ("BF16", 2)):
        header = {"w": f32(0, 2 * size, (2,)) | {"dtype": dtype}}
        file = describe(raw(tmp_path / "file", header, b"\0" * 2 * size))
        for refused in (lambda file=file: check_update(file, file), lambda file=file: read(file.path)):
            with pytest.raises(InvalidTensors, match=f"'w': dtype {dtype} is not supported"):
                refused()
    with pytest.raises(InvalidTensors, match="'w': dtype F8_E4M3 is not supported"):
        check_finite(describe(raw(tmp_path / "file", {"w": f32(0, 1) | {"dtype": "F8_E4M3"}}, b"\0")))


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_an_update_in_a_reduced_dtype(tmp_path, dtype):
    """It is taken for wider floats only, and only where it is asked for; shapes must be equal all the same."""
    reference = stored(
        tmp_path / "global", {"w": np.ones(2, np.float32), "d": np.ones(2), "n": np.ones(2, np.int32)}
    )
    names = {"d": (dtype, 4), "w": (dtype, 4), "n": ("I32", 8)}

    def update(**changed: tuple[str, int]) -> TensorFile:
        header, at = {}, 0
        for name, (kind, size) in (names | changed).items():
            header[name] = f32(at, at + size, (2,)) | {"dtype": kind}
            at += size
        return describe(raw(tmp_path / "update", header, b"\0" * at))

    check_update(update(), reference, dtype)
    check_update(update(w=("F32", 8)), reference, dtype)
    with pytest.raises(InvalidTensors, match=rf"'\w' is {dtype} \[2\], the global model's is F\d\d \[2\]"):
        check_update(update(), reference)
    with pytest.raises(InvalidTensors, match="'n' is"):
        check_update(update(n=(dtype, 4)), reference, dtype)
    half = stored(tmp_path / "half", {"w": np.ones(2, np.float16)})
    if dtype == "BF16":
        with pytest.raises(InvalidTensors, match="'w' is BF16"):
            check_update(
                describe(raw(tmp_path / "u", {"w": f32(0, 4, (2,)) | {"dtype": dtype}}, b"\0" * 4)),
                half,
                dtype,
            )


def test_bfloat16_that_is_not_finite(tmp_path):
    """NaN and infinities of BF16 are found as those of the others."""
    for bits, finite in ((0x3F80, True), (0x7F7F, True), (0x7F80, False), (0xFFC1, False)):
        data = np.array([0x3F80] * 5 + [bits], np.uint16).tobytes()
        file = describe(raw(tmp_path / "file", {"w": f32(0, 12, (6,)) | {"dtype": "BF16"}}, data))
        if finite:
            check_finite(file)
            continue
        with pytest.raises(InvalidTensors, match="'w' has values that are not finite"):
            check_finite(file)


def test_bfloat16_is_written_as_its_bits(tmp_path):
    """Arrays of uint16 whose dtype is named are BF16 in the file, beside those that say their own."""
    bits = np.array([[0x3F80, 0xC000]], np.uint16)
    content = b"".join(dump({"w": bits, "n": bits}, {"a": "b"}, {"w": "BF16"}))
    (tmp_path / "file").write_bytes(content)
    file = describe(tmp_path / "file")
    assert {name: (spec.dtype, spec.shape) for name, spec in file.tensors.items()} == {
        "w": ("BF16", (1, 2)),
        "n": ("U16", (1, 2)),
    }
    assert content[file.tensors["w"].start : file.tensors["w"].stop] == bits.tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_value_that_is_not_finite_is_found_wherever_it_is(tmp_path, bad, dtype):
    """The very last value of a tensor larger than one read counts like the first."""
    values = np.zeros(700_001, dtype)
    check_finite(stored(tmp_path / "good", {"good": values}))
    values[-1] = bad
    with pytest.raises(InvalidTensors, match="'bad' has values that are not finite"):
        check_finite(stored(tmp_path / "file", {"good": np.zeros(5, dtype), "bad": values}))


def test_integers_are_always_finite(tmp_path):
    """The bits of an integer tensor mean no NaN, whatever they are."""
    check_finite(stored(tmp_path / "file", {"n": np.full(9, -1, np.int32), "b": np.array([True])}))


def test_checking_takes_no_memory_of_the_models_size(tmp_path):
    """64 MB of model are checked in a few MB."""
    file = stored(tmp_path / "file", {"w": np.zeros(16 * 2**20, np.float32)})
    tracemalloc.start()
    try:
        check_finite(file)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_a_written_model_reads_back_the_same(tmp_path):
    """Values, dtypes, shapes and metadata survive, for us and for the library."""
    path = tmp_path / "model"
    write(path, {**MODEL, "strided": np.arange(12.0).reshape(3, 4).T}, {"aimle.round": "1"})
    arrays, metadata = read(path)
    library = load_file(path)
    assert metadata == {"aimle.round": "1"}
    assert arrays.keys() == library.keys() == MODEL.keys() | {"strided"}
    for name, expected in {**MODEL, "strided": np.arange(12.0).reshape(3, 4).T}.items():
        for found in (arrays[name], library[name]):
            np.testing.assert_array_equal(found, expected)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)


def test_a_model_in_memory_is_the_same_file(tmp_path):
    """`dump` gives the bytes that `write` writes, and `load` what `read` reads, with the arrays where they are."""
    arrays = {**MODEL, "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    write(tmp_path / "model", arrays, {"aimle.round": "3"})
    buffers = dump(arrays, {"aimle.round": "3"})
    content = bytearray(b"".join(buffers))
    assert content == (tmp_path / "model").read_bytes()
    loaded, metadata = load(content)
    assert metadata == {"aimle.round": "3"}
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
    loaded["weight"][0, 0] = 7
    assert load(content)[0]["weight"][0, 0] == 7, "a view, no copy"
    assert any(
        np.shares_memory(np.frombuffer(each, np.uint8), MODEL["weight"]) for each in buffers if len(each)
    )


def test_what_is_no_model_file_is_none_in_memory_either(tmp_path):
    """The reasons are those of files; nothing of the tensors is looked at."""
    cases = [
        raw(tmp_path / "a", {"w": f32(0, 4)}, bytes(3)),
        raw(tmp_path / "b", {"w": f32(0, 4)}, bytes(5)),
        raw(tmp_path / "c", {"w": f32(0, 4, (2,))}, bytes(4)),
        raw(tmp_path / "d", {}, length=99),
        raw(tmp_path / "e", {"w": f32(0, 8, (2,))}, bytes(8), length=MAX_HEADER + 1),
    ]
    for path in (*cases, tmp_path / "f"):
        path.touch()
        with pytest.raises(InvalidTensors) as from_file:
            read(path)
        with pytest.raises(InvalidTensors) as from_memory:
            load(bytearray(path.read_bytes()))
        assert str(from_memory.value) == str(from_file.value)


def test_a_big_endian_array_is_written_as_the_format_demands(tmp_path):
    """safetensors is little-endian; the values count, not the memory order of the machine they came from."""
    write(tmp_path / "model", {"w": np.array([1.5, -2.0], ">f4")}, {})
    np.testing.assert_array_equal(load_file(tmp_path / "model")["w"], np.array([1.5, -2.0], np.float32))


def test_an_array_that_has_no_dtype_in_the_format_is_refused(tmp_path):
    """Complex and object arrays are no model; the tensor is named and nothing is left on disk."""
    with pytest.raises(InvalidTensors, match="'z': dtype complex128"):
        write(tmp_path / "model", {"z": np.zeros(2, np.complex128)}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    """A writer that stops half way leaves neither a short file nor a temporary one."""
    layout = {"w": ("F32", (4,))}
    with pytest.raises(ValueError, match="8 bytes"), TensorWriter(tmp_path / "model", layout, {}) as writer:
        writer.put("w", 0, np.zeros(2))
    with pytest.raises(KeyError), TensorWriter(tmp_path / "model", layout, {}) as writer:
        writer.put("unknown", 0, np.zeros(2))
    assert list(tmp_path.iterdir()) == []


def test_pieces_may_come_in_any_order_and_never_leave_their_tensor(tmp_path):
    """A piece lands at its own index; one that would run into the next tensor is an error."""
    with TensorWriter(tmp_path / "model", {"a": ("F32", (4,)), "b": ("F32", (1,))}, {}) as writer:
        writer.put("b", 0, np.array([9.0]))
        writer.put("a", 2, np.array([3.0, 4.0]))
        writer.put("a", 0, np.array([1.0, 2.0]))
        with pytest.raises(ValueError, match="do not fit"):
            writer.put("a", 3, np.zeros(2))
    arrays, _ = read(tmp_path / "model")
    assert arrays["a"].tolist() == [1, 2, 3, 4]
    assert arrays["b"].tolist() == [9]
