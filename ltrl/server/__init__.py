"""A reward server: scores responses over HTTP, `ltrl serve reward SPEC`.

`settings` says what is served and where, `serve` listens, `app` answers, `evaluate` speaks the reference's protocol,
`ledger` sees to it that nothing is scored twice, `metrics` counts, `logs` tells.
"""

from ltrl.server.serve import serve
from ltrl.server.settings import ServerSettings

__all__ = ["ServerSettings", "serve"]
