"""`python -m ltrl_backends.local_engine bundle/local_engine.json`: train in the current directory."""

from __future__ import annotations

import sys

from ltrl_backends.local_engine.driver import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
