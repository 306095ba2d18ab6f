"""PyTorch modules as trainers. Needs the extra `torch`, which nothing else imports."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

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

Samples = tuple[torch.Tensor, torch.Tensor]
"""Inputs [n, ...] and targets [n, ...], on the CPU."""


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
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
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
        settings = TrainingConfig.from_mapping(config)
        module = self._loaded(parameters).train()
        optimizer = self._optimizer(module.parameters(), settings.learning_rate)
        anchors = [parameter.detach().clone() for parameter in module.parameters()]
        inputs, targets = self._train
        losses: list[float] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(settings.rng().integers(2**63)))
            for batches in settings.epochs(len(inputs)):
                losses = []
                for indices in batches:
                    batch = torch.from_numpy(indices)
                    optimizer.zero_grad()
                    loss = self._loss(module(inputs[batch]), targets[batch])
                    torch.autograd.backward(loss)
                    _pull(module, anchors, settings.proximal_mu)
                    optimizer.step()
                    losses.append(loss.item())
        local = _exported(module)
        check_finite(local)
        return FitResult(local, settings.num_samples(len(inputs)), {"loss": sum(losses) / len(losses)})

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


def _exported(module: torch.nn.Module) -> Parameters:
    return {name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()}


def _pull(module: torch.nn.Module, anchors: list[torch.Tensor], mu: float) -> None:
    """Add the gradient of mu/2 |w - anchor|^2 to every parameter that is trained."""
    for parameter, anchor in zip(module.parameters(), anchors, strict=True):
        if mu and parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - anchor, alpha=mu)
