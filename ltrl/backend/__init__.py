"""The plugin surface: what a backend is, how it is named, found and checked.

A backend is a class that a distribution publishes in the entry-point group `ltrl.backends` under the name
`<kind>.<name>`:

    [project.entry-points."ltrl.backends"]
    "reward.length" = "my_package.length:LengthReward"

The kind is part of the entry point's name so that `ltrl backends` can list every backend without importing any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ltrl import deferred
from ltrl.backend.choices import (
    BenchmarkChoice,
    Choice,
    DataChoice,
    EngineChoice,
    JudgeChoice,
    Later,
    RewardChoice,
    create,
)
from ltrl.backend.documentation import docstrings
from ltrl.backend.models import Grade, Model, Note, Relaunch
from ltrl.backend.protocols import (
    BenchmarkBackend,
    CountsQuestions,
    DataBackend,
    EngineBackend,
    JudgeBackend,
    ReadsFiles,
    RewardBackend,
    Stage,
    StagedEngineBackend,
)
from ltrl.backend.registry import API, GROUP, KINDS, BackendInfo, backends, load, missing_modules
from ltrl.backend.sections import (
    BenchmarkSection,
    DataSection,
    EngineSection,
    JudgeSection,
    Outage,
    Overlong,
    OverlongQuestion,
    Prices,
    RewardSection,
    RewardServer,
    StageSection,
    named,
)

if TYPE_CHECKING:
    from ltrl.backend.explaining import EngineCheck, EngineKey, Explains
    from ltrl.backend.importing import Fidelity, Imported, Importing, ImportRow, Imports
    from ltrl.backend.serving import Exports, ModelServer, Serves
else:
    __getattr__ = deferred.names(
        __name__,
        {
            "explaining": ("EngineCheck", "EngineKey", "Explains"),
            "importing": ("Fidelity", "ImportRow", "Imported", "Importing", "Imports"),
            "serving": ("Exports", "ModelServer", "Serves"),
        },
    )

__all__ = [
    "API",
    "GROUP",
    "KINDS",
    "BackendInfo",
    "BenchmarkBackend",
    "BenchmarkChoice",
    "BenchmarkSection",
    "Choice",
    "CountsQuestions",
    "DataBackend",
    "DataChoice",
    "DataSection",
    "EngineBackend",
    "EngineCheck",
    "EngineChoice",
    "EngineKey",
    "EngineSection",
    "Explains",
    "Exports",
    "Fidelity",
    "Grade",
    "ImportRow",
    "Imported",
    "Importing",
    "Imports",
    "JudgeBackend",
    "JudgeChoice",
    "JudgeSection",
    "Later",
    "Model",
    "ModelServer",
    "Note",
    "Outage",
    "Overlong",
    "OverlongQuestion",
    "Prices",
    "ReadsFiles",
    "Relaunch",
    "RewardBackend",
    "RewardChoice",
    "RewardSection",
    "RewardServer",
    "Serves",
    "Stage",
    "StageSection",
    "StagedEngineBackend",
    "backends",
    "create",
    "docstrings",
    "load",
    "missing_modules",
    "named",
]
