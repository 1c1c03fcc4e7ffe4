: "${LTRL_RUN_DIR:?is not set; start this with ltrl submit}" "${LTRL_ATTEMPT:?is not set; start this with ltrl submit}"
if [[ ! -f $LTRL_RUN_DIR/run.json ]]; then # a directory made here would be on a disk that nobody sees
  printf 'ltrl: %s does not see the run directory %s\n' "$(hostname)" "$LTRL_RUN_DIR" >&2
  exit 66
fi

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

# Every start of a job is an attempt of its own. The one before made its directory, unless Slurm itself ended that one.
LTRL_FIRST_ATTEMPT=${LTRL_FIRST_ATTEMPT:-$LTRL_ATTEMPT}
if (( ${SLURM_RESTART_COUNT:-0} > 0 )); then
  LTRL_ATTEMPT=$(newest)
  if [[ -e $LTRL_RUN_DIR/attempts/$LTRL_ATTEMPT/from_step ]]; then
    reserve
    announce "$job"
    LTRL_ATTEMPT=$next
  fi
  exec >>"$LTRL_RUN_DIR/attempts/$LTRL_ATTEMPT/job.log" 2>&1
fi
export LTRL_FIRST_ATTEMPT LTRL_ATTEMPT
