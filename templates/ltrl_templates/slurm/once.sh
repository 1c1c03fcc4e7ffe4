{% if is_service and how == "chain" %}
{% include "slurm/next.sh" %}

{% endif %}
doing='the start of the job' wanted='' steps=()
finish() {
  local status=$?{% if is_service and how == "chain" %} number{% endif %}

  trap '' TERM INT USR2
  if [[ -z $wanted && -n $(standing) ]]; then told; fi
  [[ $wanted != 143 ]] || blame || true
  [[ -z $wanted ]] || status=$wanted
{% if is_service %}
  rm -f -- service.json
{% if how == "requeue" %}
  if [[ -n $again && -z $wanted ]] && scontrol requeue "$job"; then exit "$status"; fi
{% elif how == "chain" %}
  if [[ -n $again && -z $wanted ]]; then
    status={{ timed_out }}
    if reserve && number=$(submit_next); then
      announce "${number%%;*}" || true
    else
      rmdir -- "attempts/$next" || true
    fi
  fi
{% endif %}
{% endif %}
  (( status == 0 )) || cause "$(ended "$status")"
  rm -f -- "$attempt/ray_token"
  printf '%s\n' "$status" >"$attempt/exit_status.$$" && mv -f -- "$attempt/exit_status.$$" "$attempt/exit_status"
  exit "$status"
}
rm -f -- "$attempt/exit_status" "$attempt/cause" # of this job before it was requeued
trap finish EXIT
printf '%s\n' "$job" >"$attempt/job_id"
trap told TERM
{% if is_service %}
again='' # a service has no end of its own: one that reaches its time limit starts again, or another follows it
trap 'again=1; cause "told to stop: the time limit is near"; end_steps' USR2
{% endif %}
