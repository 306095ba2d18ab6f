"""When an AIMLE client reports, by TS 29.549 ReportingRequirements."""

from typing import Any

import pytest

from aimle_client.runtime.reporting import ReportingRule
from sbi.errors import InvalidRequest

EACH, ONCE = {"reportingMode": "ON_EVENT_DETECTION"}, {"reportingMode": "ONE_TIME"}
PERIODIC = {"reportingMode": "PERIODIC", "reportingPeriod": 60}
BOTH = {"maxNumRep": 3, "expirationTimer": 90}


@pytest.mark.parametrize(
    ("wire", "rule"),
    [
        (None, ReportingRule()),
        (EACH, ReportingRule()),
        (EACH | {"reportingPeriod": 60, "immRep": True}, ReportingRule()),
        (ONCE, ReportingRule(most=1)),
        (ONCE | BOTH, ReportingRule(most=1, lifetime=90)),
        (PERIODIC, ReportingRule(period=60)),
        (PERIODIC | BOTH, ReportingRule(period=60, most=3, lifetime=90)),
        (EACH | BOTH | {"repTerminMode": "TIME_TRIGGERED"}, ReportingRule(lifetime=90)),
        (EACH | BOTH | {"repTerminMode": "EVENT_TRIGGERED_NUM_REPORTS_REACHED"}, ReportingRule(most=3)),
        (EACH | BOTH | {"repTerminMode": "USER_TRIGGERED"}, ReportingRule()),
    ],
)
def test_what_the_wire_means(wire: dict[str, Any] | None, rule: ReportingRule) -> None:
    """Both ends hold, unless `repTerminMode` names one of them, or the subscriber."""
    assert ReportingRule.of(wire) == rule


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({"reportingMode": "SOMETIMES"}, "reportingMode"),
        ({"reportingMode": "PERIODIC"}, "reportingPeriod"),
        (PERIODIC | {"reportingPeriod": 0}, "reportingPeriod"),
        (PERIODIC | {"reportingPeriod": 10**12}, "reportingPeriod"),
        (EACH | {"maxNumRep": 0}, "maxNumRep"),
        (EACH | {"expirationTimer": -1}, "expirationTimer"),
        (EACH | {"repTerminMode": "TIME_TRIGGERED"}, "expirationTimer"),
        (EACH | {"repTerminMode": "EVENT_TRIGGERED_NUM_REPORTS_REACHED"}, "maxNumRep"),
        (EACH | {"repTerminMode": "EVENT_TRIGGERED_MEAS_THR_REACHED"}, "repTerminMode"),
        (EACH | {"termThr": {"dlDelay": 5}}, "termThr"),
        (EACH | {"reportingThrs": [{"measThrValues": {"dlDelay": 5}}]}, "reportingThrs"),
    ],
)
def test_what_cannot_be_fulfilled_is_named(wire: dict[str, Any], param: str) -> None:
    """Thresholds are of network measurements, which an AIMLE client does not take."""
    with pytest.raises(InvalidRequest) as refused:
        ReportingRule.of(wire)
    assert [one.param for one in refused.value.invalid_params] == [f"/notifReqs/{param}"]
