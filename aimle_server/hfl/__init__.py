"""Horizontal federated learning (TS 23.482 8.12): rounds, and how updates become the next global model."""
