"""Calls that this server makes to others; one module per kind of peer."""
