"""`python failing_engine.py CONFIG`: a rehearsal whose engine dies on every seventh request."""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator
from typing import Any

from ltrl_backends.nemo_rl.rehearsal import checkout
from ltrl_backends.nemo_rl.rehearsal.run import main

checkout.use()
from ltrl_backends.nemo_rl.rehearsal.stand_ins import Engine  # noqa: E402

REQUESTS = itertools.count(1)


class FailingEngine(Engine):
    async def generate_async(self, data: Any, greedy: bool = False) -> AsyncIterator[tuple[int, Any]]:
        if next(REQUESTS) % 7 == 0:
            raise RuntimeError("the engine died, as the test wants")
        async for found in super().generate_async(data, greedy):
            yield found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], engine=FailingEngine))
