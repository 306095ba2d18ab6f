"""What an AIMLE client does between its APIs and its trainers; `aimle_client.ue` puts it together.

`registration` keeps the client known to its server (TS 23.482 8.7), `operations` what was started (8.20),
`subscriptions` which trainings run here and `rounds` one round of one of them (8.12).
"""
