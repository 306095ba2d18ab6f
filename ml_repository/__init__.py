"""The ML repository (TS 23.482 5.2.3.4) on MongoDB.

`database` opens the one connection, `embedded` runs a database when none is configured, `artifacts` keeps
model bytes in GridFS. Each store keeps one kind of document and declares its indexes beside its queries.
Documents are the wire shapes plus underscored bookkeeping: `_id`, `_owner`, `_version` (compare-and-set) and
`_expires` (checked when reading; a TTL index only cleans up).
"""

import os

# Motor runs every call in a thread, by default five per core. Calls that wait for a transaction of their own
# process would take them all, and the transaction would get none to end in.
os.environ.setdefault("MOTOR_MAX_WORKERS", "128")
