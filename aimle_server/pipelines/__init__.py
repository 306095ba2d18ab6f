"""Split operation pipelines that this server runs: which process does, and what becomes of each (TS 23.482 8.14)."""
