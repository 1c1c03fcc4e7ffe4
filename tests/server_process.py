"""A server in a process of its own, from the command line that a person types."""

from __future__ import annotations

import re
import subprocess
import threading

LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"


class ServerProcess:
    """What it has told on stderr, and its URL; empty when it ended before it listened."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = ""
        self.lines: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._listening.wait(120), "\n".join(self.lines)

    def stop(self) -> int:
        """Asks it to end; its exit status."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(60)
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if found := re.search(r"is served on (http://\S+);", line):
                self.url = found[1]
                self._listening.set()
        self._listening.set()  # it ended
