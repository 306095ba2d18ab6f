"""Every operation of every API, as tests go through them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from aimle_client.apis import APIS as CLIENT_APIS
from aimle_server.apis import SERVED_APIS
from sbi.api import Api, Operation
from tests.contract.support_documents import name_of


@dataclass(frozen=True)
class Endpoint:
    """An operation and the API it belongs to."""

    api: Api
    operation: Operation

    @property
    def name(self) -> str:
        """Its name (`name_of`)."""
        return name_of(self.api, self.operation.operation_id)

    @property
    def path(self) -> str:
        """Template of its path, base path included."""
        return self.api.base_path + self.operation.path

    @property
    def variables(self) -> list[str]:
        """Names of the variables in its path; those that several APIs have carry the API's scope."""
        return [self._own(name) for name in self._names]

    def filled(self, values: Mapping[str, str]) -> str:
        """The path with these values of `variables`."""
        return self.path.format_map({name: values[self._own(name)] for name in self._names})

    @property
    def _names(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.operation.path)

    def _own(self, variable: str) -> str:
        own = f"{self.api.scope}/{variable}"
        return own if own in MAKERS else variable


ENDPOINTS = [Endpoint(api, operation) for api in (*SERVED_APIS, *CLIENT_APIS) for operation in api.operations]
BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
WITH_BODY = [endpoint for endpoint in ENDPOINTS if endpoint.operation.body is not None]
MAKERS = {
    "channelId": "OpenChannel",
    "registrationId": "RegAimleClient",
    "storageId": "CreateMLModelsStorage",
    "configurationId": "AIMLES_FLMember.RegisterFLMember",
    "aimles-sonreg/configurationId": "CreateAimleSplitOpNodeRegSubscription",
    "aimles-splitopevent/subscriptionId": "CreateAimleSplitOpEventSubscription",
    "requestId": "SplitOpPipeCreate",
    "splitOpPipelineId": "SplitOpPipeCreate",
    "aimlec-hfl-trng/subscriptionId": "HFLTraningSubs",
    "aimles-mlmr/subscriptionId": "CreateAimleMLModelRetrievalSubscription",
    "aimles-sel/subscriptionId": "CreateAimleClSelSubscription",
    "mlr-fle/subscriptionId": "SubFLEvents",
}
"""The operations that make the resources of a variable."""
GUARDED = [endpoint for endpoint in ENDPOINTS if not endpoint.operation.capability]


def each(endpoints: list[Endpoint]) -> pytest.MarkDecorator:
    """Run the test for each of these operations."""
    return pytest.mark.parametrize("endpoint", endpoints, ids=lambda endpoint: endpoint.name)
