#!/bin/bash
# Runs the driver on this machine, in the run directory.
# shellcheck disable=SC2016,SC2317,SC2329  # quoted values expand nothing; some functions are called from traps
set -euo pipefail

{% include "attempt.sh" %}

doing='the start of the job'
finish() {
  local status=$?
  trap '' TERM INT USR2
  (( status == 0 )) || cause "$(ended "$status")"
{% if not slurm %}
  printf '%s\n' "$status" >"$attempt/exit_status.$$" && mv -f -- "$attempt/exit_status.$$" "$attempt/exit_status"
{% endif %}
}
trap finish EXIT
exec </dev/null 2>>"$attempt/stderr.log" >>"$attempt/stdout.log"
{% if not slurm %}
[[ -e $attempt/job_id ]] || printf '%s\n' "${SUBMITIT_LOCAL_JOB_ID:-$$}" >"$attempt/job_id"
{% endif %}

{% include "driver.sh" %}

{% if not slurm %}
trap 'stop 124 "the time limit of the cluster profile was reached"' USR2
{% endif %}

{% include "environment.sh" %}

{% if is_stage %}
{% elif slurm %}
host=${SLURMD_NODENAME:-$(hostname)}
{% include "preflight.sh" %}

{% else %}
{% include "tracking.sh" %}

{% endif %}
{% if services %}
{% include "services.sh" %}

{% endif %}
{% if is_service and not slurm %}
rm -f -- service.json # of an attempt before this one
{% include "service.sh" %}

end_service() { kill -TERM -- "-$driver"; }

{% endif %}
{% if has_daemon %}
doing='docker'
if ! said=$(docker version 2>&1 >/dev/null); then # which fails when its daemon does not answer
  cause "docker starts no container here: ${said##*$'\n'}; start its daemon, or choose another \`container.runtime\`: podman has none"
  exit 69 # EX_UNAVAILABLE
fi

{% endif %}
start_driver
first_gone "$driver"
end_driver
exit "${wanted:-$status}"
