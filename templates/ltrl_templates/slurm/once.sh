doing='the start of the job' wanted='' steps=()
finish() {
  local status=$?
  trap '' TERM INT
  [[ -z $wanted ]] || status=$wanted
  (( status == 0 )) || cause "$(ended "$status")"
  rm -f -- "$attempt/ray_token"
  printf '%s\n' "$status" >"$attempt/exit_status.$$" && mv -f -- "$attempt/exit_status.$$" "$attempt/exit_status"
  exit "$status"
}
rm -f -- "$attempt/exit_status" "$attempt/cause" # of this job before it was requeued
trap finish EXIT
printf '%s\n' "$SLURM_JOB_ID" >"$attempt/job_id"
trap 'wanted=143; cause "told to stop (SIGTERM)"; end_steps' TERM

# end_steps: srun itself would kill at once: this lets the steps clean up.
end_steps() {
  scancel --signal=TERM "$SLURM_JOB_ID" 2>/dev/null || true
}
