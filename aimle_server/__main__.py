"""`python -m aimle_server` is `aimle-server`."""

import sys

from aimle_server.cli import main

sys.exit(main())
