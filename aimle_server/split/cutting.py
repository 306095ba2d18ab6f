"""Cutting an ONNX model into parts, of which each takes what the one before gives (ITU-T F.748.20: DNN partition).

A cut separates the first nodes of the graph, in the order in which the model lists them, from the rest. What crosses
it is every tensor of the front, or input of the model, that the rest still reads or that is a result: one tensor in a
plain network, several beside a residual connection.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from aimle_server.split.reading import InvalidOnnx, Onnx, batch_of, inputs_of, is_plain, package, read


@dataclass(frozen=True)
class CutPoint:
    """A place at which the graph can be cut into a front and a back.

    Attributes:
        position: how many nodes are in front.
        tensors: names of what crosses, in the order in which the model makes them.
        bytes_per_sample: of all of them, for one sample.
    """

    position: int
    tensors: tuple[str, ...]
    bytes_per_sample: int


def cut_points(model: bytes | Path) -> list[CutPoint]:
    """Where the model can be cut, from its inputs to its outputs; none where it has control flow.

    Left out are cuts across a tensor whose size the model does not say, apart from the number of samples.

    Raises:
        InvalidOnnx: it is no whole ONNX model.
        NotSupported: the extra `split` is not installed.
    """
    return list(CuttableModel(model).points)


def cut(model: bytes | Path, points: Sequence[CutPoint]) -> list[bytes]:
    """The parts between these cuts, one more than there are cuts, each an ONNX model of its own.

    Raises: as `cut_points`; ValueError where the cuts are not in order.
    """
    return CuttableModel(model).parts(points)


def spread(points: Sequence[CutPoint], most: int, always: Sequence[CutPoint] = ()) -> list[CutPoint]:
    """So many cuts along the whole graph: of each stretch of it the one that fewest bytes cross; and some always."""
    others = [point for point in points if point not in always]
    groups = min(most, len(others))
    stretches = [
        others[index * len(others) // groups : (index + 1) * len(others) // groups] for index in range(groups)
    ]
    chosen = [min(stretch, key=lambda point: point.bytes_per_sample) for stretch in stretches]
    return sorted([*chosen, *always], key=lambda point: point.position)


class CuttableModel:
    """A model that is cut more than once, so it is read only once; for a large one that takes seconds.

    Args:
        joints: where it has to be possible to cut it, in order, as positions of cuts: it was made of several models.

    Attributes:
        inputs, outputs: names of its tensors.
        length: how many nodes its graph has.
        points: as of `cut_points`.
        joints: those of the points that were asked for.
        sha256: of the whole file, in hexadecimal.

    Raises: as `cut_points`.
    """

    def __init__(self, model: bytes | Path, joints: Sequence[int] = ()) -> None:
        self._onnx = package()
        content = model.read_bytes() if isinstance(model, Path) else model
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._model = read(self._onnx, content)
        graph = self._model.graph
        self.length = len(graph.node)
        self.inputs = tuple(value.name for value in inputs_of(graph))
        self.outputs = tuple(value.name for value in graph.output)
        self._batch = batch_of(graph)
        self._extractor = self._onnx.utils.Extractor(self._model)
        self.points = tuple(self._found()) if is_plain(graph) else ()
        self.joints = self._at(joints) if joints else ()

    @property
    def input_bytes(self) -> int:
        """Bytes of the inputs, for one sample; 0 where the model does not say."""
        return self._bytes(self.inputs) or 0

    @property
    def output_bytes(self) -> int:
        """Bytes of the results, for one sample; 0 where the model does not say."""
        return self._bytes(self.outputs) or 0

    def frame(self, batch: int) -> list[dict[str, Any]]:
        """The inputs of so many samples, each as name, dtype (NumPy's) and shape; InvalidOnnx where one is open."""
        return [self._type(name, batch) for name in self.inputs]

    def parts(self, points: Sequence[CutPoint]) -> list[bytes]:
        """As `cut`."""
        positions = [point.position for point in points]
        if positions != sorted(set(positions)):
            raise ValueError("the cuts are not in the order of the graph")
        borders = [None, *points, None]
        return [self.part(first, last) for first, last in pairwise(borders)]

    def part(self, first: CutPoint | None, last: CutPoint | None) -> bytes:
        """The part between two cuts; None: from the model's inputs, to its outputs."""
        takes = first.tensors if first else self.inputs
        gives = last.tensors if last else self.outputs
        content: bytes = self._extractor.extract_model(list(takes), list(gives)).SerializeToString()
        return content

    def _found(self) -> Iterator[CutPoint]:
        """The cuts that there are; of neighbours that the same tensors cross, the first."""
        before = self.inputs
        for position, crossing in _crossings(self._model.graph, self.inputs):
            if crossing in (before, self.outputs):
                continue
            before = crossing
            size = self._bytes(crossing)
            if size is not None and crossing:
                yield CutPoint(position, crossing, size)

    def _at(self, positions: Sequence[int]) -> tuple[CutPoint, ...]:
        """The cuts at these positions; where nothing changes from one position to the next, both are one cut."""
        crossing = dict(_crossings(self._model.graph, self.inputs))
        cuts = {point.tensors: point for point in self.points}
        found = [cuts[crossing[position]] for position in positions if crossing.get(position) in cuts]
        if len({cut.position for cut in found}) != len(positions):
            raise InvalidOnnx("it cannot be cut where its stages meet")
        return tuple(found)

    def _bytes(self, names: Iterable[str]) -> int | None:
        """Bytes of one sample of these tensors; None: the model does not say."""
        sizes = [self._size(name) for name in names]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def _size(self, name: str) -> int | None:
        value = self._extractor.value_infos.get(name)
        if value is None or not value.type.HasField("tensor_type"):
            return None
        tensor = value.type.tensor_type
        if not tensor.HasField("shape") or not tensor.elem_type:
            return None
        dimensions = [self._length(dimension) for dimension in tensor.shape.dim]
        if None in dimensions:
            return None
        dtype = self._onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype.hasobject:  # texts
            return None
        itemsize: int = dtype.itemsize
        return itemsize * math.prod(length or 0 for length in dimensions)

    def _type(self, name: str, batch: int) -> dict[str, Any]:
        if self._size(name) is None:
            raise InvalidOnnx(f"it does not say how large its input {name} is")
        tensor = self._extractor.value_infos[name].type.tensor_type
        dtype = self._onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        shape = [dimension.dim_value or batch for dimension in tensor.shape.dim]
        return {"name": name, "dtype": dtype.name, "shape": shape}

    def _length(self, dimension: Onnx) -> int | None:
        if dimension.HasField("dim_value"):
            return int(dimension.dim_value)
        return 1 if dimension.dim_param and dimension.dim_param == self._batch else None


def _crossings(graph: Onnx, inputs: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """How many nodes are in front, and what crosses, for every cut between two nodes.

    Constants do not cross: both sides have their own.
    """
    last_use = {name: index for index, node in enumerate(graph.node) for name in node.input}
    last_use |= {value.name: len(graph.node) for value in graph.output}
    alive = list(inputs)
    varying = set(inputs)
    for index, node in enumerate(graph.node[:-1]):
        if varying.intersection(node.input):
            made = [name for name in node.output if name]
            varying.update(made)
            alive += made
        alive = [name for name in alive if last_use.get(name, -1) > index]
        yield index + 1, tuple(alive)
