# newest: the number of the last attempt that has a directory
newest() {
  local path number last=0
  for path in "$LTRL_RUN_DIR"/attempts/*/; do
    number=$(basename -- "$path")
    if [[ $number =~ ^[0-9]+$ ]] && (( number > last )); then last=$number; fi
  done
  printf '%s' "$last"
}

# reserve: makes the directory of the next attempt, `next`; announce JOB: tells readers that this job will begin it.
reserve() {
  next=$(($(newest) + 1))
  mkdir "$LTRL_RUN_DIR/attempts/$next"
}
announce() {
  printf '%s\n' "$1" >"$LTRL_RUN_DIR/attempts/$next/job_id" &&
    printf '%s\n' "$LTRL_ATTEMPT" >"$LTRL_RUN_DIR/attempts/$next/continues"
}
{% if how == "chain" %}

# submit_next: submits this job's successor. What surrounds this job must not steer that one.
submit_next() (
  for name in $(compgen -e); do
    case $name in SLURM_CONF) ;; SLURM_* | SBATCH_* | RAY_AUTH_*) unset "$name" ;; esac
  done
  LTRL_ATTEMPT=$next sbatch --parsable --export=ALL --chdir="$LTRL_RUN_DIR" --output="attempts/$next/job.log" \
    --comment="$LTRL_MARK:$next" --dependency="afterany:$job" "$LTRL_RUN_DIR/bundle/job.sbatch"
)
{% endif %}
