# A service ends with the training that it is for: attempt LTRL_SERVES of the run, or one that followed it.
run=${LTRL_RUN_DIR%/stages/*} look_at=0 agreed=0{% if slurm %} ask_at=0{% endif %}


# over: whether that training has ended and no other attempt follows.
over() {
  local path number last=0 job{% if slurm %} said{% endif %}

  for path in "$run"/attempts/*/; do
    number=$(basename -- "$path")
    if [[ $number =~ ^[0-9]+$ ]] && (( number > last )); then last=$number; fi
  done
  if (( last < LTRL_SERVES )); then (( SECONDS > 600 )); return; fi # it was never submitted
  if ! job=$(cat "$run/attempts/$last/job_id" 2>/dev/null); then
    job=$(grep -oE '"job_id": *"[0-9]+"' "$run/attempts/$last/attempt.json") || return 1
    job=${job//[!0-9]/}
  fi
{% if slurm %}
  [[ -e $run/attempts/$last/exit_status ]] || (( SECONDS >= ask_at )) || return 1
  ask_at=$((SECONDS + ${LTRL_SERVICE_ASK_SECONDS:-30})) # what ended the job may have left it no time to say so
  said=$(squeue --noheader --format=%T --jobs="$job" 2>&1) || [[ $said == *'Invalid job id'* ]] || return 1
  [[ -z $said || $said == *'Invalid job id'* ]] || return 1
  ask_at=0 # once more, then it is so
{% else %}
  [[ -e $run/attempts/$last/exit_status ]] || ! kill -0 "$job" 2>/dev/null
{% endif %}
}

each_round() {
  (( SECONDS >= look_at )) || return 0
  look_at=$((SECONDS + 1))
  if over; then agreed=$((agreed + 1)); else agreed=0; fi
  (( agreed >= 2 )) || return 0 # a successor's directory may be seen late
  look_at=$((SECONDS + 3600)) wanted=0
  end_service
}
