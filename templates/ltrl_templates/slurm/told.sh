# This job for Slurm's commands. The number of the last task of an array is also that of the array, for which they take it.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}

# standing: "over" when Slurm has ended this start of the job, "again" when it starts the job again by itself, or nothing.
# The steps hear of it before this script does, and srun ends with status 0 when it loses a node.
standing() {
  local said
  said=$(scontrol --oneliner show job "$job") || return 0
  [[ $said =~ \ JobState=([A-Z_]+).*\ Restarts=([0-9]+) ]] || return 0
  if (( BASH_REMATCH[2] > ${SLURM_RESTART_COUNT:-0} )); then printf 'again'; return; fi
  case ${BASH_REMATCH[1]} in CANCELLED | COMPLETING | DEADLINE | NODE_FAIL | PREEMPTED | TIMEOUT) printf 'over' ;; esac
}

# told: ends the steps, as Slurm wants it; blame: what Slurm wants it for, where srun has said so.
told() {
  wanted=143
  blame || cause 'told to stop (SIGTERM)'
  end_steps
}
blame() {
  local lost
  lost=$(sed -n 's/^srun: error: Node failure on //p' "$attempt/job.log" | sort -u | tr '\n' ' ') && [[ -n $lost ]] || return
  rm -f -- "$attempt/cause" # which only followed from it
  cause "lost while the driver ran: ${lost% }"
}

# end_steps: srun itself would kill at once: this lets the steps clean up.
end_steps() {
  scancel --signal=TERM "$job" 2>/dev/null || true
}

