"""ML model retrieval subscriptions (TS 23.482 8.2.2.3): told of models that meet a filter.

A model is told of when it can be had for the first time, and again when its phase or its bytes have changed or it has
become more accurate.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from aimle_server.procedures.model_retrieval import ModelRetrieval
from aimle_server.procedures.model_update import accuracy_of
from ml_repository.model_record import StoredModel
from ml_repository.models import topic_of
from ml_repository.subscriptions import Looked, Subscription
from sbi.auth import Caller
from sbi.clock import Clock

Wire = Mapping[str, Any]

KIND = "retrieval"

LONGEST = timedelta(days=1)
"""Between two looks where nothing is expected: access may depend on the hour."""


class RetrievalWatch:
    """Looks at subscriptions to models.

    Args:
        retrieval: finds models.
        api_root: of this server, where models are downloaded.
    """

    def __init__(self, retrieval: ModelRetrieval, clock: Clock, api_root: str) -> None:
        self._retrieval = retrieval
        self._clock = clock
        self._api_root = api_root

    async def look(self, subscription: Subscription) -> tuple[Looked, None]:
        """Which models are to be told of."""
        criteria = subscription.body.get("modelSelCrit", {})
        found = await self._retrieval.suitable(Caller(subscription.owner, frozenset()), criteria)
        before = {entry["id"]: entry for entry in subscription.state.get("told", ())}
        there = [(model, _entry(model)) for model in found if model.retrievable]
        news = [(model, entry) for model, entry in there if _is_news(entry, before.get(model.id))]
        told = {model.id: entry for model, entry in news}
        kept = {model.id: before[model.id] for model in found if model.id in before}
        looked = Looked(
            state={"told": list({**kept, **told}.values())},
            topics=[topic_of(criteria)],
            due=self._clock.now() + LONGEST,
            notification=self._notification(subscription.id, [model for model, _ in news]),
            report=self._notification(subscription.id, [model for model, _ in there]),
        )
        return looked, None

    def _notification(self, subscription_id: str, models: list[StoredModel]) -> Wire | None:
        """An MlMdlRetNotif; None: there is no model to tell of."""
        if not models:
            return None
        return {
            "subId": subscription_id,
            "mlModels": [
                {"mlModelId": model.id, "mlMdlEndpoint": model.endpoint(self._api_root)} for model in models
            ],
        }


def _entry(model: StoredModel) -> dict[str, Any]:
    """What a later look compares with."""
    content = model.bytes.sha256 if model.bytes else str(model.profile.get("mlModelUri"))
    return {"id": model.id, "phase": model.phase, "content": content, "accuracy": accuracy_of(model)}


def _is_news(entry: Wire, told: Wire | None) -> bool:
    if told is None:
        return True
    changed = any(entry[name] != told[name] for name in ("phase", "content"))
    return changed or (entry["accuracy"] or 0.0) > (told["accuracy"] or 0.0)
