"""Wire shapes of the token endpoint (RFC 6749 5.1) and of the key set (RFC 7517 5)."""

from marshmallow import fields

from schemas.base import Integer, Schema, Text


class AccessTokenResponse(Schema):
    """A granted token (RFC 6749 5.1; AccessTokenRsp of TS 29.510)."""

    access_token = Text(required=True)
    token_type = Text(required=True)
    expires_in = Integer(metadata={"description": "seconds"})
    scope = Text(metadata={"description": "scopes separated by spaces"})


class JsonWebKeySet(Schema):
    """The public keys that tokens are signed with."""

    keys = fields.List(fields.Dict(keys=Text()), required=True)
