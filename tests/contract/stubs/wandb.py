"""Stands for wandb, whose logger is off: NeMo-RL imports it in any case."""


class Histogram: ...


class Table: ...
