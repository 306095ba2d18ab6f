"""What the reports of a round say of the model it began with, and whether the training ends there."""

from collections.abc import Mapping
from datetime import datetime

from aimle_server.hfl.training import Finish, Participant, State, Training


def pooled_metrics(reported: list[Participant]) -> dict[str, float]:
    """The mean of each metric over the clients that sent it, weighted by their evaluation samples.

    For accuracy and for the two errors this is the value on the joined data; for precision, recall and F1 it
    is the mean of the clients' values.
    """
    names = sorted({name for participant in reported for name in participant.metrics})
    pooled = {}
    for name in names:
        given = [p for p in reported if name in p.metrics and p.eval_samples > 0]
        weight = sum(p.eval_samples for p in given)
        if weight:
            pooled[name] = sum(p.metrics[name] * p.eval_samples for p in given) / weight
    return pooled


def verdict(training: Training, now: datetime) -> Finish | None:
    """Whether, and with which model, the training ends here."""
    objective = training.objective
    metrics = training.metrics_of(training.committed)
    if objective.reached(metrics):
        return Finish(State.COMPLETED, training.committed, "the training objective is reached")
    if training.stop.met(metrics, now):
        return Finish(State.COMPLETED, training.committed, "a stop condition of the operation is met")
    values = [m[objective.metric] for m in _all_metrics(training) if objective.metric in m]
    if objective.stalled(values):
        return _exhausted(training, best_round(training), "no further improvement (early stopping)")
    if training.evaluating_only:
        return _exhausted(training, training.committed, "the maximum number of epochs is reached")
    return None


def _all_metrics(training: Training) -> list[Mapping[str, float]]:
    return [training.initial_metrics, *(record.metrics for record in training.history)]


def best_round(training: Training) -> int:
    """Number of the round whose model is the best so far by the objective's metric; 0: the first model."""
    metric = training.objective.metric
    values = {number: m[metric] for number, m in enumerate(_all_metrics(training)) if metric in m}
    if not values:
        return training.committed
    best = training.objective.best(list(values.values()))
    return max(number for number, value in values.items() if value == best)


def _exhausted(training: Training, number: int, reason: str) -> Finish:
    """The end without the target: the model is stored if its error is acceptable, else the training fails."""
    if not training.objective.acceptable(training.metrics_of(number)):
        return Finish(
            State.FAILED, number, f"{reason}; the error is above what is acceptable", "PERFORMANCE_ERRORS"
        )
    missed = training.objective.target is not None
    return Finish(State.COMPLETED, number, reason, "UNDERFITTING" if missed else None)
