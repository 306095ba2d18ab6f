"""Places on the ground (TS 29.572, Nlmf_Location) and the areas made of them and of the network's places.

A geographic area is a JSON object whose `shape` says which of seven types it is (TS 23.032).
"""

from schemas.base import (
    Array,
    Choice,
    Integer,
    Json,
    Number,
    OpenEnum,
    Schema,
    Text,
    Union,
    array_of,
    nested,
    texts,
)
from schemas.network import Ecgi, Ncgi, NetworkAreaInfo, PlmnIdNid, Tai


class Altitude(Number):
    """Metres above the ellipsoid."""

    bounds = (-32767, 32767)
    format = "double"


class Uncertainty(Number):
    """Metres."""

    bounds = (0, None)
    format = "float"


class Angle(Integer):
    """Degrees."""

    bounds = (0, 360)


class Confidence(Integer):
    """Per cent."""

    bounds = (0, 100)


class Longitude(Number):
    """Degrees east."""

    bounds = (-180, 180)
    format = "double"


class Latitude(Number):
    """Degrees north."""

    bounds = (-90, 90)
    format = "double"


class Orientation(Integer):
    """Degrees clockwise from north, of an axis."""

    bounds = (0, 180)


class InnerRadius(Integer):
    """Metres."""

    bounds = (0, 327675)
    format = "int32"


class SupportedGADShapes(OpenEnum):
    """The shapes of TS 23.032; a `GeographicArea` can have the first seven."""

    values = (
        "POINT",
        "POINT_UNCERTAINTY_CIRCLE",
        "POINT_UNCERTAINTY_ELLIPSE",
        "POLYGON",
        "POINT_ALTITUDE",
        "POINT_ALTITUDE_UNCERTAINTY",
        "ELLIPSOID_ARC",
        "LOCAL_2D_POINT_UNCERTAINTY_ELLIPSE",
        "LOCAL_3D_POINT_UNCERTAINTY_ELLIPSOID",
        "RANGE_DIRECTION",
        "RELATIVE_2D_LOCATION_UNCERTAINTY_ELLIPSE",
        "RELATIVE_3D_LOCATION_UNCERTAINTY_ELLIPSOID",
    )


class GeographicalCoordinates(Schema):
    """Longitude and latitude in WGS 84."""

    lon = Longitude(required=True)
    lat = Latitude(required=True)


class UncertaintyEllipse(Schema):
    """An ellipse around a point."""

    semiMajor = Uncertainty(required=True)
    semiMinor = Uncertainty(required=True)
    orientationMajor = Orientation(required=True)


class GADShape(Schema):
    """What all shapes have: their name."""

    shape = SupportedGADShapes(required=True)


class Point(GADShape):
    """A point."""

    point = nested(GeographicalCoordinates, required=True)


class PointUncertaintyCircle(Point):
    """A point in the middle of a circle."""

    uncertainty = Uncertainty(required=True)


class PointUncertaintyEllipse(Point):
    """A point in the middle of an ellipse."""

    uncertaintyEllipse = nested(UncertaintyEllipse, required=True)
    confidence = Confidence(required=True)


class Polygon(GADShape):
    """Three to fifteen corners."""

    pointList = array_of(GeographicalCoordinates, min_items=3, max_items=15, required=True)


class PointAltitude(Point):
    """A point and its altitude."""

    altitude = Altitude(required=True)


class PointAltitudeUncertainty(Point):
    """A point and its altitude, neither certain."""

    altitude = Altitude(required=True)
    uncertaintyEllipse = nested(UncertaintyEllipse, required=True)
    uncertaintyAltitude = Uncertainty(required=True)
    confidence = Confidence(required=True)


class EllipsoidArc(Point):
    """A piece of a ring around a point."""

    innerRadius = InnerRadius(required=True)
    uncertaintyRadius = Uncertainty(required=True)
    offsetAngle = Angle(required=True)
    includedAngle = Angle(required=True)
    confidence = Confidence(required=True)


class GeographicArea(Union):
    """An area on the ground, told apart by `shape`."""

    discriminator = "shape"
    types = {
        "POINT": Point,
        "POINT_UNCERTAINTY_CIRCLE": PointUncertaintyCircle,
        "POINT_UNCERTAINTY_ELLIPSE": PointUncertaintyEllipse,
        "POLYGON": Polygon,
        "POINT_ALTITUDE": PointAltitude,
        "POINT_ALTITUDE_UNCERTAINTY": PointAltitudeUncertainty,
        "ELLIPSOID_ARC": EllipsoidArc,
    }


class CivicAddress(Schema):
    """A postal address (RFC 4776, RFC 5139): the names are the codes of its parts."""

    country = Text()
    A1 = Text()
    A2 = Text()
    A3 = Text()
    A4 = Text()
    A5 = Text()
    A6 = Text()
    PRD = Text()
    POD = Text()
    STS = Text()
    HNO = Text()
    HNS = Text()
    LMK = Text()
    LOC = Text()
    NAM = Text()
    PC = Text()
    BLD = Text()
    UNIT = Text()
    FLR = Text()
    ROOM = Text()
    PLC = Text()
    PCN = Text()
    POBOX = Text()
    ADDCODE = Text()
    SEAT = Text()
    RD = Text()
    RDSEC = Text()
    RDBR = Text()
    RDSUBBR = Text()
    PRM = Text()
    POM = Text()
    usageRules = Text()
    method = Text()
    providedBy = Text()


class HorizontalSpeed(Number):
    """Kilometres per hour."""

    bounds = (0, 2047)
    format = "float"


class VerticalSpeed(Number):
    """Kilometres per hour."""

    bounds = (0, 255)
    format = "float"


class SpeedUncertainty(Number):
    """Kilometres per hour."""

    bounds = (0, 255)
    format = "float"


class HorizontalVelocity(Schema):
    """How fast, and where to: degrees clockwise from north."""

    hSpeed = HorizontalSpeed(required=True)
    bearing = Angle(required=True)


class HorizontalWithVerticalVelocity(HorizontalVelocity):
    """The same, and how fast up or down."""

    vSpeed = VerticalSpeed(required=True)
    vDirection = Choice("UPWARD", "DOWNWARD", required=True)


class HorizontalVelocityWithUncertainty(HorizontalVelocity):
    """How fast on the ground, not certain."""

    hUncertainty = SpeedUncertainty(required=True)


class HorizontalWithVerticalVelocityAndUncertainty(HorizontalWithVerticalVelocity):
    """How fast on the ground and up or down, neither certain."""

    hUncertainty = SpeedUncertainty(required=True)
    vUncertainty = SpeedUncertainty(required=True)


class VelocityEstimate(Union):
    """A velocity (TS 29.572): of the smallest type that has all the attributes which are given."""

    types = {
        each.__name__: each
        for each in (
            HorizontalVelocity,
            HorizontalWithVerticalVelocity,
            HorizontalVelocityWithUncertainty,
            HorizontalWithVerticalVelocityAndUncertainty,
        )
    }

    def type_of(self, value: Json) -> type[Schema]:
        """By what is given: what is missing for that type is then an error."""
        uncertain = value.keys() & {"hUncertainty", "vUncertainty"}
        if value.keys() & {"vSpeed", "vDirection", "vUncertainty"}:
            return (
                HorizontalWithVerticalVelocityAndUncertainty if uncertain else HorizontalWithVerticalVelocity
            )
        return HorizontalVelocityWithUncertainty if uncertain else HorizontalVelocity


class LocationArea(Schema):
    """Where: areas, addresses, or places of the network by their identities (TS 29.122)."""

    cellIds = texts()
    enodeBIds = texts()
    routingAreaIds = texts()
    trackingAreaIds = texts()
    geographicAreas = Array(GeographicArea())
    civicAddresses = array_of(CivicAddress)


class LocationArea5G(Schema):
    """Where: geographic areas, civic addresses, or places of the network (TS 29.122)."""

    geographicAreas = Array(GeographicArea(), min_items=0)
    civicAddresses = array_of(CivicAddress, min_items=0)
    nwAreaInfo = nested(NetworkAreaInfo)


class TopologicalServiceArea(Schema):
    """A service area in the network's terms."""

    ecgis = array_of(Ecgi)
    ncgis = array_of(Ncgi)
    tais = array_of(Tai)
    plmnIds = array_of(PlmnIdNid)


class GeographicalServiceArea(Schema):
    """A service area on the ground."""

    geoArs = Array(GeographicArea())
    civicAddrs = array_of(CivicAddress)


class ServiceArea(Schema):
    """Where an edge server serves (TS 29.558, Eecs_EESRegistration)."""

    topServAr = nested(TopologicalServiceArea)
    geoServAr = nested(GeographicalServiceArea)
