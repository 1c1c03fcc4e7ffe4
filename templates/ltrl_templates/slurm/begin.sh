: "${LTRL_RUN_DIR:?is not set; start this with ltrl submit}" "${LTRL_ATTEMPT:?is not set; start this with ltrl submit}"
if [[ ! -f $LTRL_RUN_DIR/run.json ]]; then # a directory made here would be on a disk that nobody sees
  printf 'ltrl: %s does not see the run directory %s\n' "$(hostname)" "$LTRL_RUN_DIR" >&2
  exit 66
fi

{% include "slurm/next.sh" %}

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
