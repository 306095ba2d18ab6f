"""The ML repository (TS 23.482 5.2.3.4) on MongoDB.

`database` opens the one connection, `embedded` runs a database when none is configured, `artifacts` keeps
model bytes in GridFS. Each store keeps one kind of document and declares its indexes beside its queries.
Documents are the wire shapes plus underscored bookkeeping: `_id`, `_owner`, `_version` (compare-and-set) and
`_expires` (checked when reading; a TTL index only cleans up).
"""
