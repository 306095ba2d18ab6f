"""FL members as tests describe them: FlMbr on the wire."""

from typing import Any

Json = dict[str, Any]

CAPABILITY = {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "STANDARD_RESOURCE_USAGE"}
WEEKDAYS = [{"daysOfWeek": [1, 2, 3, 4, 5], "timeOfDayStart": "20:00:00Z", "timeOfDayEnd": "06:00:00Z"}]
AREA = {"shape": "POINT_UNCERTAINTY_CIRCLE", "point": {"lon": 7.1, "lat": 50.7}, "uncertainty": 500}


def fl_mbr(name: str = "val-1", **changes: Any) -> Json:
    """A member with the attributes that it must have; `changes` replace or add some, None removes one."""
    member = {
        "flMbrId": name,
        "flMbrSuppGrp": {"flGroupId": "group-1"},
        "suppAimlRole": "FL_CLIENT",
        "flMbrCapability": CAPABILITY,
    } | changes
    return {name: value for name, value in member.items() if value is not None}


def whole_fl_mbr(name: str = "val-1") -> Json:
    """A member with every attribute that there is."""
    address = {"valUeIpv6Addr": "2001:db8::7", "port": 8080}
    info = {"availability": "AVAILABLE", "constraints": ["LIMITED_MEMORY"], "role": "FL_CLIENT"}
    plmn, other = {"mcc": "262", "mnc": "01"}, {"mcc": "208", "mnc": "10", "nid": "0000000000A"}
    return fl_mbr(
        name,
        flMbrSuppGrp={
            "flGroupId": "group-1",
            "flMembers": [{"flMemberId": "ue-1", "flMemberAddr": address, "flMemberInfo": info}],
        },
        flMbrVelocity={"hSpeed": 50, "bearing": 90},
        flMbrLocation={"cellIds": ["cell-1"], "geographicAreas": [AREA], "civicAddresses": [{"A3": "Bonn"}]},
        flMbrAvailSch=WEEKDAYS,
        supMlModelId=["model-1", "model-2"],
        areaValidity=AREA,
        timeValidity={"startTime": "2030-01-01T00:00:00Z", "stopTime": "2099-01-01T00:00:00Z"},
        allowedMno=[
            {
                "servingPlmn": plmn,
                "nonservingPlmns": [{"plmn": other, "permission": "LIMITED_CAPABILITIES"}],
                "aimleServerId": "aimle-server",
            }
        ],
    )
