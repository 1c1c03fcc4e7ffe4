"""Two users of one machine in one project: each sees the other's runs, and neither harms them.

The other user is a number that nobody has. It may read everything, as Python may be installed where only root can go,
and write what it could write anyway.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from launching import make_bundle, stand_in, until

from ltrl import bundle as bundles
from ltrl import runs, state
from ltrl import submit as launcher
from ltrl.errors import Code, LtrlError

OTHER = 61234

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv (util-linux)"
)


def listed(project, _name):
    return [(row.id, row.state) for row in runs.list_runs(project)]


def cancel(project, name):
    return runs.cancel(state.read_run(project / "runs" / name)).id


def submit(project, name):
    return launcher.submit(bundles.read(project / "build" / name), project=project).id


def submit_fresh(project, name):
    while True:
        try:
            return launcher.submit(bundles.read(project / "build" / name), project=project, fresh=True).id
        except LtrlError as error:
            if error.diagnostics[0].code is not Code.RUN_BUSY:  # two wanted one name: submit again, as it says
                raise


@pytest.fixture
def project(monkeypatch):
    """A directory in which every user may make runs, below no directory that only one may enter."""
    home = Path(tempfile.mkdtemp(prefix="ltrl-users-"))
    for path in (home, home / "runs"):
        path.mkdir(exist_ok=True)
        path.chmod(0o1777)  # as /tmp: nobody removes what is another's
    monkeypatch.setenv("LTRL_STATE_DIR", str(home / "state-0"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    yield home
    shutil.rmtree(home)


def started(project, user, act, name=""):
    """One of the functions above as a user, in a process of its own; what it returns is read with `told`."""
    caps = "-all,+dac_read_search"
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", f"--inh-caps={caps}"]
    words += [f"--ambient-caps={caps}", sys.executable, __file__, act.__name__, str(project), name]
    told = {**os.environ, "LTRL_STATE_DIR": str(project / f"state-{user}"), "HOME": str(project)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, env=told if user else None, text=True)


def told(process):
    with process:
        return json.loads(process.communicate()[0])


def by(project, user, act, name=""):
    return told(started(project, user, act, name))


def test_each_sees_the_runs_of_the_other_and_changes_none(project):
    made = make_bundle(project, stand_in("--seconds", "3"))
    mine = launcher.submit(made, project=project)
    assert by(project, OTHER, listed) == [[mine.id, "RUNNING"]]
    assert by(project, OTHER, cancel, mine.id) == [
        [
            "LTRL032",
            f"`{mine.id}` is a run of `root`, who alone can change it",
            "`ltrl submit --fresh` starts one of your own beside it",
        ]
    ]
    [[code, message, _]] = by(project, OTHER, submit, made.name)
    assert (code, message.split(":")[0]) == ("LTRL041", f"`{mine.id}` has an attempt that is not over")
    row = until(lambda: (r := runs.status(state.read_run(mine.path))).state.is_finished and r, 120)
    assert (row.state, row.attempt) == ("COMPLETED", 1)
    assert by(project, OTHER, listed) == [[mine.id, "COMPLETED"]]


def test_ten_submissions_of_two_users_are_ten_runs(project):
    made = make_bundle(project, ["true"])
    ids = [told(one) for one in [started(project, user, submit_fresh, made.name) for user in (0, OTHER) * 5]]
    assert len(set(ids)) == 10
    found = [state.read_run(project / "runs" / run) for run in ids]
    assert Counter(run.path.stat().st_uid for run in found) == {0: 5, OTHER: 5}
    assert [len(run.attempts) for run in found] == [1] * 10
    rows = until(lambda: (r := runs.list_runs(project)) and all(x.state.is_finished for x in r) and r, 120)
    assert sorted(row.id for row in rows) == sorted(ids)


if __name__ == "__main__":
    _, action, home, name = sys.argv
    try:
        said = globals()[action](Path(home), name)
    except LtrlError as error:
        said = [(d.code, d.message, d.hint) for d in error.diagnostics]
    sys.stdout.write(json.dumps(said))
