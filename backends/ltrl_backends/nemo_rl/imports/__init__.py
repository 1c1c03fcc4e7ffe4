"""Other launchers' files as specs: slime's launch scripts and NeMo-RL's own configurations."""

from ltrl_backends.nemo_rl.imports.config import import_config
from ltrl_backends.nemo_rl.imports.script import import_script

__all__ = ["import_config", "import_script"]
