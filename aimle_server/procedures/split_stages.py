"""The stages of split operation pipelines: which nodes they name, and whether those can run them. No I/O."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_repository.split_nodes import Node
from ml_repository.split_pipelines import Pipeline
from sbi.errors import InvalidParam
from schemas.split_event import SplitOpEventId, SubEventId

Wire = Mapping[str, Any]

AVAILABILITY, PIPELINE_INFO, ASSISTANCE_INFO = SplitOpEventId.values
CREATED, UPDATED, DELETED = SubEventId.values


def addresses_of(endpoint: Wire) -> list[str]:
    """What an EndPoint's node may have registered as, one of several IP addresses."""
    if "uri" in endpoint:
        return [endpoint["uri"].rstrip("/")]
    return (
        [endpoint["fqdn"]] if "fqdn" in endpoint else [*endpoint.get("ipv4Addrs", endpoint.get("ipv6Addrs"))]
    )


def named(stages: Iterable[Wire]) -> list[str]:
    """All addresses that the stages name, each once, in their order."""
    endpoints = (endpoint for stage in stages for endpoint in stage["nodeOrder"])
    return list(dict.fromkeys(address for endpoint in endpoints for address in addresses_of(endpoint)))


def owners_of(stage: Wire, nodes: Iterable[Node]) -> list[str]:
    """Who registered those of the nodes that a stage names."""
    addresses = named([stage])
    return sorted({node.owner for node in nodes if node.address in addresses})


def missing(pipeline: Pipeline, nodes: Sequence[Node], usage: Wire | None = None) -> list[str]:
    """Nodes of a pipeline that are not among those that count, or do not run its models for its usage, or another."""
    usage = pipeline.usage if usage is None else usage
    return [
        addresses_of(endpoint)[0]
        for stage in pipeline.stages
        for endpoint in stage["nodeOrder"]
        if not _runs(endpoint, stage["mlModelId"], usage, nodes)
    ]


def faults(
    stages: Sequence[Wire], usage: Wire, nodes: Sequence[Node], models: Iterable[str], pointer: str
) -> Iterator[InvalidParam]:
    """What keeps the stages from being run.

    Args:
        nodes: those that count at the addresses that the stages name.
        models: those of the stages that are stored, for the caller.
        pointer: where the stages are in the body.
    """
    stored, seen = set(models), set()
    for number, stage in enumerate(stages):
        place, model, order = f"{pointer}/{number}", stage["mlModelId"], stage["nodeOrder"]
        if stage["stageId"] in seen:
            yield InvalidParam(f"{place}/stageId", "is that of another stage")
        seen.add(stage["stageId"])
        if stage.get("numNodes", str(len(order))) != str(len(order)):
            yield InvalidParam(f"{place}/numNodes", "is not the number of nodes in nodeOrder")
        if model not in stored:
            yield InvalidParam(f"{place}/mlModelId", "is no stored model")
        for position, endpoint in enumerate(order):
            if not _runs(endpoint, model, usage, nodes):
                reason = "is no registered node that runs this model for this usage"
                yield InvalidParam(f"{place}/nodeOrder/{position}", reason)


def parts(before: Pipeline | None, after: Pipeline | None) -> dict[str, str]:
    """What nodes with a URI are told when a pipeline becomes another: the sub-event for each URI."""
    had, has = _told(before), _told(after)
    told = {uri: UPDATED if uri in had else CREATED for uri in has}
    return told | {uri: DELETED for uri in had if uri not in has}


def _told(pipeline: Pipeline | None) -> list[str]:
    """URIs of the nodes that are told; those that this server runs a pipeline on get what they have to do."""
    if pipeline is None or pipeline.execution is not None:
        return []
    uris = (endpoint.get("uri") for stage in pipeline.stages for endpoint in stage["nodeOrder"])
    return list(dict.fromkeys(uri for uri in uris if uri))


def _runs(endpoint: Wire, model: str, usage: Wire, nodes: Iterable[Node]) -> bool:
    addresses = addresses_of(endpoint)
    return any(node.address in addresses and node.takes(model, usage) for node in nodes)


def usable(pipeline: Pipeline, missing: Sequence[str]) -> bool:
    """Whether a pipeline of which these nodes do not count can be used now."""
    return not missing if pipeline.execution is None else pipeline.deployment is not None


def profile_of(pipeline: Pipeline, missing: Sequence[str], *, whole: bool) -> dict[str, Any]:
    """The SplitOpProfile.

    Args:
        missing: its nodes that do not count now.
        whole: for those whom it concerns; others do not see where its results go.
    """
    state = "READY" if usable(pipeline, missing) else "DEGRADED"
    extension: dict[str, Any] = {"state": state, "version": pipeline.version}
    if pipeline.fault:
        extension["reason"] = pipeline.fault
    if missing:
        extension["missing"] = list(missing)
    if pipeline.multi_client:
        extension["multiClient"] = True
    if pipeline.clients:
        extension["clients"] = 1 + len(pipeline.clients)
    if pipeline.target and whole:
        extension["notificationTarget"] = pipeline.target
    if pipeline.execution is not None:
        extension["execution"] = _execution(pipeline.execution, pipeline.deployment or {})
    stages = _stages(pipeline)
    profile = {
        "splitOpPipelineId": pipeline.id,
        "stageInfo": stages,
        "headEp": stages[0]["headEp"],
        "tailEp": stages[-1]["tailEp"],
        "aimle": extension,
    }
    return profile | ({"usageInfo": pipeline.usage} if pipeline.usage else {})


def _stages(pipeline: Pipeline) -> list[Wire]:
    """The stages; those that this server runs are entered and left where it put the parts.

    A stage that is not the last one ends at the part which has the end of it: results come from the last one only.
    """
    if pipeline.deployment is None:
        return list(pipeline.stages)
    ends = pipeline.deployment["ends"]
    return [
        {**stage, "headEp": {"uri": end["head"]}, "tailEp": {"uri": end["tail"]}}
        for stage, end in zip(pipeline.stages, ends, strict=True)
    ]


def _execution(execution: Wire, deployment: Wire) -> dict[str, Any]:
    """The PipelineExecution."""
    return {
        **execution,
        **deployment.get("measured", {}),
        **({"parts": deployment["parts"]} if deployment else {}),
    }


def notification(profile: Wire, sub_event: str | None = None) -> dict[str, Any]:
    """A SplitOpEventNotif: what became of a pipeline, or how it stands."""
    info = {"splitOpProfile": profile} | ({"subEventId": sub_event} if sub_event else {})
    return {"splitOpEventId": PIPELINE_INFO, "splitOpPipelineInfo": info}
