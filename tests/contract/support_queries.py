"""What the requests of a whole system have in common: who sends them, and what their queries and headers say."""

import base64
import json

from tests.support_val import SERVICE

OWNER, STRANGER, UE = "val-1", "val-2", "ue-1"
SPLIT_NODE = "http://127.0.0.1:9/split-node"
"""A node that is registered for every model, and that nobody reaches."""

CRITERIA = {
    "serviceReq": {"valServId": SERVICE, "permLevel": "STANDARD"},
    "aimlOpers": ["MODEL_TRAINING"],
    "clientAppCap": {"appType": "FL"},
    "datasetReq": {"avail": {"ids": ["digits"]}},
}
ANY_MODEL = {"mlModelId": "*", "storeDiscReqs": {"duration": 0}}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}
QUERIES = {
    "GetAimleClients": {"filt-criteria": json.dumps(CRITERIA), "cl-number": "5", "supported-features": "1"},
    "GetMlModelInfo": {"filt-criteria": json.dumps(ANY_MODEL), "supported-features": "1"},
    "GetMLModelsStorages": {"supp-feats": "0"},
}
