"""A running ML repository for the tests of its models: real HTTP, real database, a clock that tests move."""

import io
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from safetensors.numpy import save

from ml_repository.apis import artifacts as artifacts_api
from ml_repository.apis import model_discovery, model_management
from ml_repository.database import Database
from ml_repository.keys import MODEL_ARTIFACTS, MODEL_DISCOVERY, MODEL_MANAGEMENT, MODEL_SPOOL
from ml_repository.model_artifacts import ModelArtifacts
from ml_repository.model_discovery import ModelDiscovery
from ml_repository.model_management import ModelManagement
from ml_repository.models import Models
from ml_repository.repository import Repository as Stores
from sbi.api import Api
from sbi.auth import Caller
from sbi.errors import Unauthenticated
from sbi.mount import AUTHENTICATOR, PUBLIC_URL, mount
from sbi.problems import problems
from sbi.spool import Spool
from tests.support import ManualClock

PUBLIC = {"accessReqs": {"accessReq": "PUBLICLY_AVAILABLE"}}
MAX_BYTES = 8 << 20

Answer = tuple[int, Mapping[str, str], Any]


class SpokenName:
    """An authenticator for tests: `Bearer subject:vendor` is believed."""

    async def authenticate(self, authorization: str | None, scope: str) -> Caller:
        """The caller that the header names."""
        if not authorization:
            raise Unauthenticated("no token")
        subject, _, vendor = authorization.removeprefix("Bearer ").partition(":")
        return Caller(subject, frozenset({scope}), vendor or None)


@dataclass
class Repository:
    """A repository that listens on `root`, and what is behind it."""

    root: str
    session: ClientSession
    clock: ManualClock
    database: Database
    models: Models
    artifacts: ModelArtifacts

    async def call(
        self, method: str, path: str, *, subject: str = "owner", vendor: str = "", **options: Any
    ) -> Answer:
        """Status, headers and JSON of a request made for this subject."""
        headers = {**token(subject, vendor), **options.pop("headers", {})}
        url = path if path.startswith("http") else self.root + path
        async with self.session.request(method, url, headers=headers, **options) as response:
            body = await response.json(content_type=None) if await response.read() else None
            return response.status, response.headers, body

    async def store(self, *profiles: dict[str, Any], subject: str = "owner") -> tuple[str, Any]:
        """Store models in a new storage: its id and its representation."""
        status, headers, body = await self.call(
            "POST", "/mlr-mlmm/v1/storages", subject=subject, json=storage(*profiles)
        )
        assert status == 201, body
        return headers["Location"].rsplit("/", 1)[1], body

    async def put_bytes(self, model_id: str, content: bytes | AsyncIterator[bytes], **options: Any) -> Answer:
        """Upload a model's file."""
        data = io.BytesIO(content) if isinstance(content, bytes) else content
        return await self.call("PUT", f"/aimle-artifacts/v1/models/{model_id}", data=data, **options)

    async def get_bytes(self, model_id: str, subject: str = "owner") -> tuple[int, bytes]:
        """Status and bytes of a download."""
        url = f"{self.root}/aimle-artifacts/v1/models/{model_id}"
        async with self.session.get(url, headers=token(subject)) as response:
            return response.status, await response.read()

    async def artifact_count(self) -> int:
        """How many files the repository keeps."""
        return await self.database["artifacts"].count_documents({})


@asynccontextmanager
async def repository(
    database: Database, directory: Path, add: Callable[[web.Application], Api] | None = None
) -> AsyncIterator[Repository]:
    """A repository on this database, with uploads spooled below `directory`; `add` brings an API more."""
    clock = ManualClock()
    stores = await Stores.open(database, clock, _new_id)
    stamp = {"server_id": "server-1", "repository_id": "repository-1"}
    artifacts = ModelArtifacts(
        stores.models, stores.storages, stores.artifacts, stores.discards, clock, _new_id, **stamp
    )
    app = web.Application(middlewares=[problems()])
    app[AUTHENTICATOR] = SpokenName()
    app[PUBLIC_URL] = ""
    app[MODEL_MANAGEMENT] = ModelManagement(stores.storages, **stamp)
    app[MODEL_DISCOVERY] = ModelDiscovery(stores.models)
    app[MODEL_ARTIFACTS] = artifacts
    app[MODEL_SPOOL] = Spool(directory, MAX_BYTES)
    more = [add(app)] if add else []
    mount(app, [model_management.API, model_discovery.API, artifacts_api.API, *more])
    async with TestServer(app) as server, ClientSession() as session:
        root = str(server.make_url("")).rstrip("/")
        yield Repository(root, session, clock, database, stores.models, artifacts)


def _new_id() -> str:
    return secrets.token_urlsafe(16)


def token(subject: str, vendor: str = "") -> dict[str, str]:
    """The header that makes a request somebody's."""
    return {"Authorization": f"Bearer {subject}:{vendor}"}


def profile(model_id: str, **info: Any) -> dict[str, Any]:
    """MLModelProfile of a model with these attributes of MLModel, and a phase if nothing else is required."""
    needed = {"vendors", "interopInfo", "phaseInfo", "storeDiscReqs"}
    default = {} if needed & info.keys() else {"phaseInfo": {"phase": "TRAINED"}}
    return {"mlModelInfo": {"mlModelId": model_id, **default, **info}}


def storage(*profiles: dict[str, Any]) -> dict[str, Any]:
    """MLModelsStorage with these models."""
    return {"mlModels": list(profiles)}


def safetensors(count: int = 1000, fill: float = 0.5) -> bytes:
    """A model file with one tensor of `count` float32 elements."""
    return save({"weight": np.full(count, fill, np.float32)}, {"aimle.round": "1"})
