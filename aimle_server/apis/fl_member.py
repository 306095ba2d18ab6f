"""AIMLES_FLMember (TS 29.482 6.1.19; TS 23.482 8.4.3b to 8.4.3e): VAL servers register as FL members.

Once it has authorised the caller, the AIMLE server hands the request to the ML repository (8.4.2) as it is. So these
are the operations of MLR_FLMember, on the same members.
"""

from ml_repository.apis.fl_member import OPERATIONS
from sbi.api import Api

API = Api(
    name="AIMLES_FLMember",
    spec="TS 29.482",
    version="1.0.0-alpha.1",
    base_path="/aimles-flreg/v1",
    operations=OPERATIONS,
)
