"""Looks at subscriptions when an event concerns them, and when their time has come."""
