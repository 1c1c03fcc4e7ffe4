"""Stands for swanlab, whose logger is off: NeMo-RL imports it in any case."""
