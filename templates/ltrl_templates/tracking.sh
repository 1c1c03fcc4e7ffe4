# All attempts report to one Weights & Biases run, whose number the first one draws.
if [[ ! -s wandb_run_id ]]; then
  printf '%s-%s\n' "${LTRL_RUN_ID:-run}" "$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')" >wandb_run_id
fi
WANDB_RUN_ID=${WANDB_RUN_ID:-$(<wandb_run_id)} WANDB_RESUME=${WANDB_RESUME:-allow}
export WANDB_RUN_ID WANDB_RESUME
