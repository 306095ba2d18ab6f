"""Wire shapes: every document that an AIMLE API takes or answers, as a marshmallow schema.

One module per API (`client_registration`, `model_training`...), the types that several share in `common`
(TS 29.122, TS 29.571) and `location` (TS 29.572), the machinery in `base`. A schema has the name of its
component in the OpenAPI document of TS 29.482 or TS 24.560. `load` checks and returns plain JSON data with
the wire's names and values; nothing is converted, unknown attributes are dropped.
"""
