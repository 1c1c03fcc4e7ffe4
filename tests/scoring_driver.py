"""A driver without a model that scores one response with the reward of its run, wherever that is computed, and then is
the stand-in driver.

scoring_driver.py STAND_IN_DRIVER [ARGUMENT...]
"""

import json
import os
import sys
from pathlib import Path

from ltrl.backend import load
from ltrl.scoring import Response, ScoreRequest
from ltrl.served import connect, hosted

written = json.loads(Path("bundle/resolved.json").read_bytes())["spec"]["reward"]
options = load("reward", written["backend"]).Options.model_validate(written, strict=False)
answer = Response(None, "Mali answer Poro", is_ill_formed=False, status="completed")
with hosted(options, name="trial", directory=Path("logs")) as found:
    [score] = connect(found).score([ScoreRequest("1", "Who?", "Poro", ("Mali",), answer)])
    told = {"outcome": score.outcome, "address": found.server.address, "secrets": [w for w in sys.argv if "token" in w]}
    with Path("scored").open("a") as file:
        file.write(json.dumps(told) + "\n")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
