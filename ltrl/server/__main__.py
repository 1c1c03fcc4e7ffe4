"""`python -m ltrl.server SETTINGS.json`: the server that a job starts for itself; it ends with its standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from ltrl.errors import LtrlError
from ltrl.server import ServerSettings, serve


def main() -> int:
    """Serves; 1 for a mistake of the user's."""

    def tell(url: str) -> None:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()

    settings = ServerSettings.model_validate_json(Path(sys.argv[1]).read_bytes())
    try:
        serve(settings, on_listening=tell, stop_at_end_of_input=True)
    except LtrlError as error:
        for diagnostic in error.diagnostics:
            sys.stderr.write(f"error[{diagnostic.code}]: {diagnostic.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
