"""Places as the network names them: cells, tracking areas and nodes (TS 29.571 5.4)."""

from schemas.base import Integer, Schema, Text, array_of, nested


class Mcc(Text):
    """Mobile country code."""

    pattern = r"^\d{3}$"


class Mnc(Text):
    """Mobile network code."""

    pattern = r"^\d{2,3}$"


class Nid(Text):
    """Network identifier of a stand-alone non-public network."""

    pattern = r"^[A-Fa-f0-9]{11}$"


class EutraCellId(Text):
    """Identity of an E-UTRA cell, 28 bits."""

    pattern = r"^[A-Fa-f0-9]{7}$"


class NrCellId(Text):
    """Identity of an NR cell, 36 bits."""

    pattern = r"^[A-Fa-f0-9]{9}$"


class Tac(Text):
    """Tracking area code, 2 or 3 octets."""

    pattern = r"(^[A-Fa-f0-9]{4}$)|(^[A-Fa-f0-9]{6}$)"


class HexId(Text):
    """Identity of a non-3GPP access node (N3IWF, W-AGF, TNGF)."""

    pattern = r"^[A-Fa-f0-9]+$"


class NgeNbId(Text):
    """Identity of an ng-eNB."""

    pattern = r"^(MacroNGeNB-[A-Fa-f0-9]{5}|LMacroNGeNB-[A-Fa-f0-9]{6}|SMacroNGeNB-[A-Fa-f0-9]{5})$"


class ENbId(Text):
    """Identity of an eNB."""

    pattern = (
        r"^(MacroeNB-[A-Fa-f0-9]{5}|LMacroeNB-[A-Fa-f0-9]{6}"
        r"|SMacroeNB-[A-Fa-f0-9]{5}|HomeeNB-[A-Fa-f0-9]{7})$"
    )


class GNbValue(Text):
    """Identity of a gNB, 22 to 32 bits."""

    pattern = r"^[A-Fa-f0-9]{6,8}$"


class PlmnId(Schema):
    """A mobile network."""

    mcc = Mcc(required=True)
    mnc = Mnc(required=True)


class PlmnIdNid(PlmnId):
    """A mobile network that may be a stand-alone non-public one."""

    nid = Nid()


class Ecgi(Schema):
    """An E-UTRA cell."""

    plmnId = nested(PlmnId, required=True)
    eutraCellId = EutraCellId(required=True)
    nid = Nid()


class Ncgi(Schema):
    """An NR cell."""

    plmnId = nested(PlmnId, required=True)
    nrCellId = NrCellId(required=True)
    nid = Nid()


class Tai(Schema):
    """A tracking area."""

    plmnId = nested(PlmnId, required=True)
    tac = Tac(required=True)
    nid = Nid()


class GNbId(Schema):
    """A gNB: how many bits its identity has, and the identity."""

    bitLength = Integer(22, 32, required=True)
    gNBValue = GNbValue(required=True)


class GlobalRanNodeId(Schema):
    """A node of the access network: exactly one kind of identity."""

    one_of = ("n3IwfId", "gNbId", "ngeNbId", "wagfId", "tngfId", "eNbId")

    plmnId = nested(PlmnId, required=True)
    n3IwfId = HexId()
    gNbId = nested(GNbId)
    ngeNbId = NgeNbId()
    wagfId = HexId()
    tngfId = HexId()
    nid = Nid()
    eNbId = ENbId()


class NetworkAreaInfo(Schema):
    """Cells, nodes and tracking areas (TS 29.554, Npcf_BDTPolicyControl)."""

    ecgis = array_of(Ecgi)
    ncgis = array_of(Ncgi)
    gRanNodeIds = array_of(GlobalRanNodeId)
    tais = array_of(Tai)
