"""`engine: {name: nemo-rl, device: cpu}`: what NeMo-RL would run on the cluster, in one process on this machine.

`shrink` (when compiling) makes the run small, `run` (in the job) finds NeMo-RL and starts the driver, `stand_ins` takes
the places of what needs a GPU, `small_model` makes the model.
"""
