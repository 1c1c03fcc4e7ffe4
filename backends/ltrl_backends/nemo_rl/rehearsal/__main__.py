"""`python -m ltrl_backends.nemo_rl.rehearsal bundle/nemo_rl.yaml`."""

import sys

from ltrl_backends.nemo_rl.rehearsal.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
