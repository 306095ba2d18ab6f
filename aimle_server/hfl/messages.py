"""Bodies of the notifications to the VAL server: MlModelTrainNotif (TS 23.482 8.3.3.3) without `trainingID`.

The member `aimle` is ours: what 3GPP's attributes cannot say (the round, precise figures, the stored model's
identifier, why it ended). A plain consumer ignores it.
"""

from collections.abc import Mapping
from typing import Any

from aimle_server.hfl.training import Finish, Training

NO_MEMBERS = "NO_MEMBERS"
"""A value of our own of the open enumeration TrainingErr: the training ended before anybody took part."""


def member_changes(before: Training, after: Training) -> dict[str, Any] | None:
    """Who was selected and who was not any more; None where nothing changed."""
    new = [p.uri for client_id, p in after.participants.items() if client_id not in before.participants]
    old = [p.uri for client_id, p in before.participants.items() if client_id not in after.participants]
    members = [{"clientSel": True, "clientUri": uri} for uri in new]
    members += [{"clientSel": False, "clientUri": uri} for uri in old]
    return {"members": members} if members else None


def progress(training: Training, percentage: int) -> dict[str, Any]:
    """A round is committed: the figures are those of the model that the round began with."""
    metrics = training.metrics_of(training.committed)
    extension = {"round": training.round, "evaluatedRound": training.committed, "metrics": dict(metrics)}
    body = _with_output({"percentageComp": percentage, "aimle": extension}, metrics)
    return _with_news(body, training, selected=True)


def ended(training: Training, finish: Finish) -> dict[str, Any]:
    """The training's result is stored."""
    metrics = training.metrics_of(finish.round)
    extension = {
        "state": finish.state.value,
        "reason": finish.reason,
        "evaluatedRound": finish.round,
        "metrics": dict(metrics),
        "outputModelId": training.output_model_id,
    }
    body = _with_output({"percentageComp": training.percentage, "aimle": extension}, metrics)
    if finish.error:
        body["trainErr"] = finish.error
    return _with_news(body, training, selected=False)


def without_result(training: Training, error: str | None) -> dict[str, Any]:
    """The training ended and stored nothing."""
    extension = {"state": training.state.value, "reason": training.reason}
    body: dict[str, Any] = {"percentageComp": training.percentage, "aimle": extension}
    if error:
        body["trainErr"] = error
    return _with_news(body, training, selected=False)


def _with_news(body: dict[str, Any], training: Training, *, selected: bool) -> dict[str, Any]:
    """With one of `members`, `trainOut` and `trainErr` at least, as TS 29.482 6.1.8.6.2.3 wants it.

    Where there are neither figures nor an error it is who takes part, or does not any more.
    """
    if body.keys() & {"trainOut", "trainErr"}:
        return body
    members = [{"clientSel": selected, "clientUri": p.uri} for p in training.participants.values()]
    return {**body, **({"members": members} if members else {"trainErr": NO_MEMBERS})}


def _with_output(body: dict[str, Any], metrics: Mapping[str, float]) -> dict[str, Any]:
    output = perf_params(metrics)
    return {**body, "trainOut": output} if output else body


def perf_params(metrics: Mapping[str, float]) -> dict[str, float | int]:
    """Metrics as the wire's PerfParams; `modelAccuracy` is a whole number of per cent."""
    names = {
        "precision": "modelPrecision",
        "recall": "modelRecall",
        "f1": "modelF1score",
        "mse": "errorMeanSquare",
        "mae": "errorMeanAbs",
    }
    params: dict[str, float | int] = {wire: metrics[name] for name, wire in names.items() if name in metrics}
    if "accuracy" in metrics:
        params["modelAccuracy"] = round(100 * metrics["accuracy"])
    return params
