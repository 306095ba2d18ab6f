"""Joining the models of a pipeline's stages to one (TS 23.482 8.14.2.3): each takes what the one before gives.

The inputs of the first and the results of the last stage keep their names, all others get the number of their stage in
front: `2/conv1`. The number of samples is called as in the first.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from aimle_server.split.cutting import CuttableModel
from aimle_server.split.fitting import Fit, Length, fit
from aimle_server.split.reading import InvalidOnnx, Onnx, batch_of, inputs_of, is_plain, package, read

_LEAST_OPSET = 13
"""From here on onnx brings models to a later opset as they are; before, it changes what Resize and Hardmax give."""

_LEAST_IR_VERSION = 4
"""From here on a stored tensor need not be an input as well."""


@dataclass(frozen=True)
class StageModel:
    """The ONNX model of a stage, which messages call by its stageId."""

    stage_id: str
    content: bytes


def join(stages: Sequence[StageModel]) -> CuttableModel:
    """One model that gives what these give one after another; its `joints` are where they meet.

    Raises:
        InvalidOnnx: one of them is no ONNX model, or does not fit those before it; the message names its stage.
        NotSupported: the extra `split` is not installed.
    """
    if len(stages) == 1:
        return CuttableModel(stages[0].content)
    onnx = package()
    models, chain = _alike(onnx, stages), _Chain(onnx)
    for stage, model in zip(stages, models, strict=True):
        with _naming(stage):
            chain.append(model.graph, last=stage is stages[-1])
    return CuttableModel(_file(onnx, chain.graph, models), chain.ends[:-1])


def _file(onnx: Onnx, graph: Onnx, models: Sequence[Onnx]) -> bytes:
    """The joined model, as the models import what they use."""
    versions = {domain: version for model in models for domain, version in _versions(model).items()}
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid(*each) for each in versions.items()],
        ir_version=max(_LEAST_IR_VERSION, *(model.ir_version for model in models)),
    )
    try:
        return bytes(model.SerializeToString())
    except Exception as error:  # what protobuf raises has no base
        raise InvalidOnnx("the models of all stages are more than one ONNX file holds") from error


@contextmanager
def _naming(stage: StageModel) -> Iterator[None]:
    """What goes wrong in here is this stage's."""
    try:
        yield
    except InvalidOnnx as error:
        raise InvalidOnnx(f"stage {stage.stage_id}: {error}") from error


def _alike(onnx: Onnx, stages: Sequence[StageModel]) -> list[Onnx]:
    """The models, with the shapes of their tensors, all of the same opset."""
    models: list[Onnx] = []
    for stage in stages:
        with _naming(stage):
            models.append(_plain(onnx, read(onnx, stage.content)))
    target = max(_versions(model).get("", 0) for model in models)
    for place, stage in enumerate(stages):
        with _naming(stage):
            models[place] = _brought_to(onnx, models[place], target)
            _check_domains(models[place], models[:place])
    return models


def _plain(onnx: Onnx, model: Onnx) -> Onnx:
    """The model without functions of its own."""
    if model.functions:
        model = onnx.shape_inference.infer_shapes(onnx.inliner.inline_local_functions(model))
    if not is_plain(model.graph):
        raise InvalidOnnx("a model with control flow, or with sparse tensors, cannot be joined to others")
    return model


def _brought_to(onnx: Onnx, model: Onnx, target: int) -> Onnx:
    """The model in a later opset."""
    version = _versions(model).get("", target)
    if version == target:
        return model
    reason = f"its opset {version} cannot be brought to {target}, which another stage has"
    if version < _LEAST_OPSET:
        raise InvalidOnnx(reason)
    try:
        converted = onnx.version_converter.convert_version(model, target)
        return onnx.shape_inference.infer_shapes(converted)
    except Exception as error:  # as for reading
        raise InvalidOnnx(reason) from error


def _check_domains(model: Onnx, before: Sequence[Onnx]) -> None:
    """Refuse operators in another version than a former stage has them."""
    used = {domain: version for former in before for domain, version in _versions(former).items()}
    for domain, version in _versions(model).items():
        if used.get(domain, version) != version:
            raise InvalidOnnx(f"it has version {version} of {domain}, and a stage before it {used[domain]}")


def _versions(model: Onnx) -> dict[str, int]:
    """The version of each domain of operators; ONNX's own is the empty one."""
    return {"" if opset.domain == "ai.onnx" else opset.domain: opset.version for opset in model.opset_import}


class _Chain:
    """Graphs, one behind the other.

    Attributes:
        graph: all of them.
        ends: how many nodes it had after each.
    """

    def __init__(self, onnx: Onnx) -> None:
        self.graph = onnx.GraphProto(name="joined")
        self.ends: list[int] = []
        self._gives: dict[str, Onnx] = {}

    def append(self, graph: Onnx, *, last: bool) -> None:
        """Put a graph behind those that are there; it is changed.

        Raises:
            InvalidOnnx: it does not fit.
        """
        results = [value.name for value in graph.output]
        found = fit(self._gives, graph, batch_of(self.graph)) if self.ends else _beginning(graph)
        self._note(found.shapes)
        kept = self._kept(results, found) if last else {}
        _rename(graph, f"{len(self.ends) + 1}/", {**found.names, **kept}, found.lengths)
        if not self.ends:
            self.graph.input.extend(inputs_of(graph))
        if last:
            self.graph.output.extend(graph.output)
        self._gives = dict(zip(results, graph.output, strict=True))
        self.graph.node.extend(graph.node)
        self.graph.initializer.extend(graph.initializer)
        self.graph.value_info.extend(graph.value_info)
        self.ends.append(len(self.graph.node))

    def _note(self, shapes: Mapping[str, Sequence[Length]]) -> None:
        """Write how large the tensors between two graphs are."""
        for value in self._gives.values():
            if value.name in shapes:
                _set_shape(value, shapes[value.name])
        inputs = {value.name for value in self.graph.input}
        self.graph.value_info.extend(value for value in self._gives.values() if value.name not in inputs)

    def _kept(self, results: Sequence[str], found: Fit) -> dict[str, str]:
        """The names of the results, which are those of nothing else."""
        inputs = {value.name for value in self.graph.input}
        for name in results:
            if name in found.names:
                raise InvalidOnnx(f"its result {name} is its input")
            if name in inputs:
                raise InvalidOnnx(f"its result {name} is called like an input of the first stage")
        return {name: name for name in results}


def _beginning(graph: Onnx) -> Fit:
    """How the first graph is put there: its inputs stay what they are."""
    batch = batch_of(graph)
    return Fit({value.name: value.name for value in inputs_of(graph)}, {batch: batch}, {})


def _rename(graph: Onnx, prefix: str, names: Mapping[str, str], lengths: Mapping[str, Length]) -> None:
    """Give all that a plain graph has these names, or else their own with a prefix."""

    def renamed(name: str) -> str:
        return names.get(name, f"{prefix}{name}") if name else ""

    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = renamed(value.name)
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                _set_length(dimension, lengths.get(dimension.dim_param, f"{prefix}{dimension.dim_param}"))
    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    for node in graph.node:
        node.name = node.name and f"{prefix}{node.name}"
        node.input[:] = map(renamed, node.input)
        node.output[:] = map(renamed, node.output)


def _set_shape(value: Onnx, lengths: Sequence[Length]) -> None:
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for length in lengths:
        _set_length(shape.dim.add(), length)


def _set_length(dimension: Onnx, length: Length) -> None:
    if isinstance(length, int):
        dimension.dim_value = length
    else:
        dimension.dim_param = length
