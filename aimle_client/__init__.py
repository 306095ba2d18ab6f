"""Client SDK of the AIMLE server: `val` for VAL servers (AIML-S), `ue` for AIMLE clients on UEs (AIML-UU).

Both sides share `http` (requests, tokens, retries) and `errors` (one tree); `trainers` holds what learns.
"""
