"""Where a handler finds the services of the ML repository: `call[MODEL_DISCOVERY]`."""

from aiohttp import web

from ml_repository.fl_member_registration import FLMemberRegistration
from ml_repository.model_artifacts import ModelArtifacts
from ml_repository.model_discovery import ModelDiscovery
from ml_repository.model_management import ModelManagement
from sbi.spool import Spool

FL_MEMBERS = web.AppKey("fl_members", FLMemberRegistration)
MODEL_MANAGEMENT = web.AppKey("model_management", ModelManagement)
MODEL_DISCOVERY = web.AppKey("model_discovery", ModelDiscovery)
MODEL_ARTIFACTS = web.AppKey("model_artifacts", ModelArtifacts)
MODEL_SPOOL = web.AppKey("model_spool", Spool)
"""Where uploads of models are collected on disk."""
