"""Notifications on their way out: when to try again (`retry`) and who does it (`dispatcher`)."""
