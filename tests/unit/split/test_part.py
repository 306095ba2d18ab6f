"""A part as a node runs it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

import onnx

from aimle_client.split.emulation import Emulation
from aimle_client.split.frames import FrameError, pack_tensors, unpack_tensors
from aimle_client.split.part import InvalidPart, Part
from tests.support_onnx import chain, inputs, model, run

pytestmark = pytest.mark.split

ALONE = (
    "import sys; from aimle_client.split.part import Part; Part(open(sys.argv[1], 'rb').read()).measure(2)"
)


def test_nobody_is_told(tmp_path: Path) -> None:
    """onnxruntime's telemetry, which is on as it comes, is off: it leaves no trace of a session of its own."""
    path, folder = tmp_path / "part.onnx", tmp_path / "tmp"
    path.write_bytes(chain())
    folder.mkdir()
    without = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")
    }
    command = [sys.executable, "-c", ALONE, str(path)]
    subprocess.run(command, env=without | {"TMPDIR": str(folder)}, check=True, timeout=60)
    assert list(folder.iterdir()) == []


def test_what_a_run_gives() -> None:
    """The results, how many samples there were, and how long it took."""
    ran = Part(chain()).run(pack_tensors(inputs(chain(), samples=5)))
    expected = run(chain(), inputs(chain(), samples=5))
    np.testing.assert_allclose(unpack_tensors(ran.payload)["y"], expected["y"], rtol=0, atol=1e-5)
    assert ran.samples == 5
    assert ran.seconds > 0


def test_a_slow_device() -> None:
    """Slowed down, a run takes as many times as long."""
    payload = pack_tensors(inputs(chain(), samples=20_000))
    emulation = Emulation()
    part = Part(chain(), emulation=emulation)
    fast = min(part.run(payload).seconds for _ in range(5))
    emulation.slowdown = 10.0
    assert part.run(payload).seconds > 9 * fast


@pytest.mark.parametrize(
    "payload", [b"", b"no safetensors", pack_tensors({}), pack_tensors({"x": np.zeros(6)})]
)
def test_what_are_no_inputs(payload: bytes) -> None:
    """Anything but this part's inputs is refused."""
    with pytest.raises(FrameError):
        Part(chain()).run(payload)


def test_what_is_no_part() -> None:
    """Neither is anything but a model, nor one whose inputs do not travel."""
    with pytest.raises(InvalidPart, match="not an ONNX model"):
        Part(b"no model")
    with pytest.raises(InvalidPart, match="do not travel"):
        Part(model("texts (string[N] x) => (string[N] y) { y = Identity(x) }")).measure(1)
    with pytest.raises(InvalidPart, match="more than a frame"):
        Part(chain()).measure(10_000_000)


@pytest.mark.parametrize("location", ["weights", "{folder}/weights", "../{name}/weights"])
def test_files_of_the_node_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """A part whose weights are in another file does not run, even where there is such a file."""
    monkeypatch.chdir(tmp_path)
    whole = onnx.load_model_from_string(chain())
    tensor = whole.graph.initializer[0]
    (tmp_path / "weights").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location.format(folder=tmp_path, name=tmp_path.name))
    with pytest.raises(InvalidPart):
        Part(whole.SerializeToString())
