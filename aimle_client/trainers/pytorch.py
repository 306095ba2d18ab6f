"""PyTorch modules as trainers. Needs the extra `torch`, which nothing else imports."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aimle_client.trainers import metrics
from aimle_client.trainers.base import (
    EvalResult,
    FitResult,
    Parameters,
    TrainingConfig,
    check_finite,
    check_like,
)
from aimle_client.trainers.resumable import BatchFit, FitState, named, part, run, settings_of

Samples = tuple[torch.Tensor, torch.Tensor]
"""Inputs [n, ...] and targets [n, ...], on the CPU."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(outputs, targets) -> their mean loss."""


def sgd(parameters: Iterator[torch.nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """Plain SGD: the default optimizer, made anew in every round."""
    return torch.optim.SGD(parameters, lr=learning_rate)


class TorchTrainer:
    """A trainer of a copy of `module`; parameters are its `state_dict`, with buffers, as NumPy arrays.

    `loss` maps (outputs, targets) to a mean loss. Integer targets mean classification, and outputs [n, classes].
    The same seed and round give the same result on a CPU. A module that draws random numbers (dropout) uses the
    process's generator, which is seeded here and put back: train one such module at a time.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        loss: Loss,
        train: Samples,
        evaluation: Samples,
        optimizer: Callable[[Iterator[torch.nn.Parameter], float], torch.optim.Optimizer] = sgd,
    ) -> None:
        for inputs, targets in (train, evaluation):
            if len(inputs) != len(targets) or len(targets) == 0:
                raise ValueError(f"{len(inputs)} inputs and {len(targets)} targets: one of each per sample")
        self._module, self._loss, self._optimizer = module, loss, optimizer
        self._train, self._evaluation = train, evaluation

    def initial_parameters(self) -> Parameters:
        """A first global model: the module as it was given."""
        return _exported(self._module)

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """Train from `parameters`; metrics: `loss`, the mean over the last epoch. FloatingPointError if it diverges."""
        return run(self.begin(parameters, config))

    def begin(self, parameters: Parameters, config: Mapping[str, Any]) -> "TorchFit":
        """As `fit`, step by step."""
        settings = TrainingConfig.from_mapping(config)
        module = self._loaded(parameters)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(settings.rng().integers(2**63)))
            random = torch.get_rng_state()
        return self._under_way(module, _trained(module), random, settings)

    def load_state(self, state: FitState) -> "TorchFit":
        """Go on where the state was saved; ValueError if it is of another model or other samples."""
        settings = settings_of(state)
        module = self._loaded(part("local", state.arrays))
        anchors = _trained(self._loaded(part("start", state.arrays)) if settings.proximal_mu else module)
        if "random" not in state.arrays:
            raise ValueError("the state has no random state")
        random = torch.from_numpy(state.arrays["random"])
        fit = self._under_way(module, anchors, random, settings, state.details)
        fit.optimizer.load_state_dict(_optimizer_state(state))
        return fit

    def _under_way(
        self,
        module: torch.nn.Module,
        anchors: list[torch.Tensor],
        random: torch.Tensor,
        settings: TrainingConfig,
        details: Mapping[str, Any] | None = None,
    ) -> "TorchFit":
        optimizer = self._optimizer(module.parameters(), settings.learning_rate)
        return TorchFit(self._train, self._loss, module, optimizer, anchors, random, settings, details)

    def evaluate(self, parameters: Parameters) -> EvalResult:
        """loss and, for integer targets, accuracy, precision, recall and f1; otherwise mse and mae."""
        module = self._loaded(parameters).eval()
        inputs, targets = self._evaluation
        with torch.inference_mode():
            outputs = module(inputs)
            loss = self._loss(outputs, targets).item()
        if targets.is_floating_point():
            found = metrics.regression(targets.numpy(), outputs.reshape(targets.shape).numpy())
        else:
            found = metrics.classification(targets.numpy(), outputs.argmax(dim=1).numpy())
        return EvalResult(len(targets), {**found, "loss": loss})

    def _loaded(self, parameters: Parameters) -> torch.nn.Module:
        """A copy of the module that holds `parameters`."""
        module = copy.deepcopy(self._module)
        check_like(parameters, {name: tuple(value.shape) for name, value in module.state_dict().items()})
        module.load_state_dict({name: torch.tensor(values) for name, values in parameters.items()})
        return module


class TorchFit(BatchFit):
    """A module under way; FedProx pulls towards `anchors`; `random` is the state of torch's generator."""

    def __init__(
        self,
        train: Samples,
        loss: Loss,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        anchors: list[torch.Tensor],
        random: torch.Tensor,
        settings: TrainingConfig,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(settings, len(train[0]), details)
        self.optimizer = optimizer
        self._train, self._loss, self._module = train, loss, module.train()
        self._anchors, self._random = anchors, random

    def result(self) -> FitResult:
        """The local model."""
        local = _exported(self._module)
        check_finite(local)
        samples = self.settings.num_samples(len(self._train[0]))
        return FitResult(local, samples, {"loss": sum(self.losses) / len(self.losses)})

    def _learn(self, batch: npt.NDArray[np.intp]) -> float:
        indices = torch.from_numpy(batch)
        inputs, targets = self._train
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random)
            self.optimizer.zero_grad()
            loss = self._loss(self._module(inputs[indices]), targets[indices])
            torch.autograd.backward(loss)
            _pull(self._module, self._anchors, self.settings.proximal_mu)
            self.optimizer.step()
            self._random = torch.get_rng_state()
        return float(loss.item())

    def _state(self) -> tuple[Parameters, dict[str, Any]]:
        arrays = named("local", _exported(self._module)) | {"random": self._random.numpy()}
        if self.settings.proximal_mu:
            # Buffers have no anchor; those that are here only complete the model.
            names = [name for name, _ in self._module.named_parameters()]
            anchors = {name: one.numpy() for name, one in zip(names, self._anchors, strict=True)}
            arrays |= named("start", _exported(self._module) | anchors)
        saved = self.optimizer.state_dict()
        of_parameters, numbers = _split(saved["state"])
        return arrays | of_parameters, {"groups": saved["param_groups"], "numbers": numbers}


def _split(state: Mapping[int, Mapping[str, Any]]) -> tuple[Parameters, dict[str, dict[str, Any]]]:
    """What an optimizer keeps of each parameter: tensors as arrays, and the rest."""
    arrays: Parameters = {}
    rest: dict[str, dict[str, Any]] = {}
    for index, values in state.items():
        rest[str(index)] = {}
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                arrays[f"optimizer.{index}.{name}"] = value.detach().cpu().numpy()
            else:
                rest[str(index)][name] = value
    return arrays, rest


def _optimizer_state(state: FitState) -> dict[str, Any]:
    """The optimizer's `state_dict` of a saved state."""
    numbers, groups = state.details.get("numbers"), state.details.get("groups")
    if not isinstance(numbers, dict) or not isinstance(groups, list):
        raise ValueError("the state has no optimizer")
    kept: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in numbers.items()}
    for name, values in part("optimizer", state.arrays).items():
        index, _, attribute = name.partition(".")
        kept[int(index)][attribute] = torch.tensor(values)
    return {"state": kept, "param_groups": groups}


def _trained(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def _exported(module: torch.nn.Module) -> Parameters:
    return {name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()}


def _pull(module: torch.nn.Module, anchors: list[torch.Tensor], mu: float) -> None:
    """Add the gradient of mu/2 |w - anchor|^2 to every parameter that is trained."""
    for parameter, anchor in zip(module.parameters(), anchors, strict=True):
        if mu and parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - anchor, alpha=mu)
