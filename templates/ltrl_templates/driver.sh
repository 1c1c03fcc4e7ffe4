driver='' wanted='' reaper=''

# stop STATUS WHY: asks the driver and all its children to end, and kills what is left of them after 20 s.
stop() {
  [[ -z $reaper ]] || return 0 # told already
  wanted=${wanted:-$1}
  cause "$2"
  [[ -n $driver ]] || exit "$wanted"
  kill -TERM -- "-$driver" 2>/dev/null || true
  [[ -z $reaper ]] || return 0 # told a second time
  set -m
  { sleep 20; kill -KILL -- "-$driver"; {% if remove %}remove_container; {% endif %}} 2>/dev/null &
  reaper=$!
  set +m
}
trap 'stop 143 "told to stop (SIGTERM)"' TERM
trap 'stop 130 "interrupted (SIGINT)"' INT

{% if remove %}
# remove_container: ends the container, which outlives a client that was killed.
remove_container() {
  [[ ! -s $attempt/container_id ]] || {{ remove }} "$(<"$attempt/container_id")" >/dev/null 2>&1 || true
}

{% endif %}
start_driver() {
  doing='the driver'
  moment 'driver started'
{% if remove %}
  rm -f -- "$attempt/container_id" # the client refuses one that is there
{% endif %}
  set -m # a process group of its own: a signal to it reaches all its children
  {{ command }} >>"$attempt/stdout.log" 2>>"$attempt/stderr.log" &
  driver=$!
  set +m
}

end_driver() {
  kill -TERM -- "-$driver" 2>/dev/null || true # children that outlived it
  [[ -z $reaper ]] || kill -TERM -- "-$reaper" 2>/dev/null || true
{% if remove %}
  remove_container
{% endif %}
}
