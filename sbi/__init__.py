"""HTTP plumbing that the server, the repository and the client SDK share.

Nothing here knows what AIMLE is: `errors` and `problems` (one tree, one catalogue), `api` (an API as data),
`mount` (an API as an aiohttp sub-application), `body` (JSON in), `auth` (who calls), `clock`, and the
transfer of model bytes (`tensors`, `transfer`). The rules are those of TS 29.501, TS 29.500 and TS 29.122.
"""
