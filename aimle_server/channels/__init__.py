"""Channels: how those are reached that nobody can call, VAL servers and UEs behind a NAT (TS 29.122 5.2.5.4).

They open a WebSocket to this server. What is sent to their channel's address comes out of it (`socket`), whichever
process holds it (`channels`).
"""
