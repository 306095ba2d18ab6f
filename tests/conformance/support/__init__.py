"""The toolbox of the conformance suite: it knows HTTP and OpenAPI documents, and no AIMLE server."""
