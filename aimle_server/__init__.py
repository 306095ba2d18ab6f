"""The AIMLE server (TS 23.482 5.2.3.2): the procedures, the APIs they are reached by, and what runs them.

`settings` says what an operator may choose, `app` puts the parts together, `apis` holds the route tables and
`procedures` the rules; `hfl` runs the rounds of horizontal federated learning, `notifications` delivers what
the procedures promise, `consumers` are the calls this server makes itself, `cli` starts it all.
"""
