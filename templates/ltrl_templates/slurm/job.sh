# saved: steps done at the newest complete checkpoint
saved() {
  local path number last=0 found=''
  for path in checkpoints/step_*/training_info.json; do
    number=$(basename -- "${path%/training_info.json}")
    number=${number#step_}
    if [[ -s $path && $number =~ ^[0-9]+$ ]] && (( 10#$number >= last )); then last=$((10#$number)) found=$path; fi
  done
  if [[ -n $found ]] && found=$(grep -oE '"total_steps": *[0-9]+' "$found"); then last=${found##*[!0-9]}; fi
  printf '%s' "$last"
}

doing='the start of the job' wanted='' again='' stop_at='' requeue='' from=0 steps=()
finish() {
  local status=$? step
  trap '' TERM INT USR2
  step=$(saved)
  if [[ -z $wanted ]] && (( step < {{ target }} )) && [[ -n $(standing) ]]; then told; fi
  [[ $wanted != 143 ]] || blame || true
  if [[ -n $wanted ]]; then
    status=$wanted
  elif (( step >= {{ target }} )); then
    status=0 # whatever its processes said when they ended
  elif [[ -n $stop_at ]]; then
    status={{ timed_out }} again=1
  elif (( status == 0 )); then
    cause "ended at step $step of {{ target }}"
    status=1 again=1
  else
    cause "$(ended "$status")"
    # what slurmstepd says of a step that the kernel killed
    if grep -qsE 'oom[-_]kill event' "$attempt/job.log"; then status={{ out_of_memory }}; fi
  fi
  rm -f -- "$attempt/ballast" "$attempt/ray_token"
  printf '%s\n' "$status" >"$attempt/.exit_status" && mv -f -- "$attempt/.exit_status" "$attempt/exit_status"
  if [[ -z $wanted && ( -n $again || $step -gt $from ) ]] && (( step < {{ target }} )); then
    start_again "$step" || no_more 'it cannot be recorded'
  fi
  if [[ -n $requeue ]]; then
    if scontrol requeue "$job" || [[ $(standing) == again ]]; then # only now is this attempt known to be over
      announce "$job" || true
    else
      rm -rf -- "attempts/$next"
      no_more 'Slurm refuses to requeue the job; see job.log'
    fi
  fi
  exit "$status"
}

# no_more WHY: adds to the cause that no further attempt follows.
no_more() {
  printf '%s; no further attempt: %s\n' "$(<"$attempt/cause")" "$1" >"$attempt/.cause" &&
    mv -f -- "$attempt/.cause" "$attempt/cause"
}

# brake LAST STEP: why no attempt may follow the last one, which ended with this step saved; nothing when one may.
brake() {
  local n idle=0
  for (( n = $1; n >= LTRL_FIRST_ATTEMPT; n-- )); do
    [[ -s attempts/$n/from_step && $(<"attempts/$n/from_step") == "$2" ]] || break
    idle=$((idle + 1))
  done
  if (( idle >= {{ max_idle_attempts }} )); then
    printf '%s in a row saved no new checkpoint' "$idle"
  elif (( $1 - LTRL_FIRST_ATTEMPT + 1 >= {{ max_attempts }} )); then
    printf '%s of at most {{ max_attempts }} were made' "$(($1 - LTRL_FIRST_ATTEMPT + 1))"
  fi
}

# start_again STEP: sees to the next attempt, if there may be one.
{% if how == "none" %}
start_again() { :; }
{% else %}
start_again() {
  local why
  why=$(brake "$LTRL_ATTEMPT" "$1")
  if [[ -n $why ]]; then no_more "$why" || true; return 0; fi
  reserve || return
{% if how == "requeue" %}
  requeue=1
}
{% else %}
  local number
  if number=$(submit_next); then announce "${number%%;*}"; return; fi
  rm -rf -- "attempts/$next"
  no_more 'Slurm refuses the job that was to follow; see job.log'
}
{% endif %}
{% endif %}

trap finish EXIT
printf '%s\n' "$job" >"$attempt/job_id"
[[ -e $attempt/attempt.json || -e $attempt/continues ]] || printf '%s\n' "$((LTRL_ATTEMPT - 1))" >"$attempt/continues"
moment 'job'
rm -f -- attempts/*/ray_token # of an attempt whose node was lost
head -c 65536 /dev/zero >"$attempt/ballast"
from=$(saved)
printf '%s\n' "$from" >"$attempt/from_step"
doing='a job whose run is complete'
(( from < {{ target }} )) || exit 0
too_many=$(brake "$((LTRL_ATTEMPT - 1))" "$from")
if [[ -n $too_many ]]; then
  cause "Slurm started the job again, but enough attempts were made: $too_many"
  wanted=1
  exit 1
fi

trap told TERM
trap 'stop_soon' USR2

# stop_soon: tells the driver to save and end, and ends it when that takes too long.
stop_soon() {
  [[ -z $stop_at ]] || return 0
  cause 'told to save and stop: the time limit is near, or the nodes are needed'
  : >"$attempt/stop"
  stop_at=$((SECONDS + ${LTRL_STOP_SECONDS:-{{ stop_seconds }}}))
}
each_round() {
  if [[ -n $stop_at ]] && (( SECONDS >= stop_at )); then
    stop_at=$((SECONDS + 3600))
    end_steps
  fi
}

LTRL_JOB_ENDS=${SLURM_JOB_END_TIME:-$(($(date +%s) + {{ minutes }} * 60))}
LTRL_BUNDLE_HASH=$(sha256sum "$LTRL_RUN_DIR/bundle/ltrl.lock.json")
LTRL_BUNDLE_HASH=${LTRL_BUNDLE_HASH%% *}
export LTRL_JOB_ENDS LTRL_BUNDLE_HASH

{% include "tracking.sh" %}
