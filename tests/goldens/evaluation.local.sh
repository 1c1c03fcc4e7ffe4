#!/bin/bash
# Runs the driver on this machine, in the run directory.
# shellcheck disable=SC2016,SC2317,SC2329  # quoted values expand nothing; some functions are called from traps
set -euo pipefail

: "${LTRL_RUN_DIR:?is not set; start this with ltrl submit}" "${LTRL_ATTEMPT:?is not set; start this with ltrl submit}"
attempt=$LTRL_RUN_DIR/attempts/$LTRL_ATTEMPT
mkdir -p "$attempt"
cd "$LTRL_RUN_DIR"

# cause TEXT: why the attempt failed. The first to say it is right: what fails later fails because of it.
cause() {
  local text=$1 draft
  draft=$attempt/.cause.$(hostname).$BASHPID
  printf 'ltrl: %s\n' "$text" >&2 || true
  if ! head -c 65536 /dev/zero >"$draft" 2>/dev/null; then
    rm -f -- "$draft" "$attempt/ballast" # room for this one line
    text="the disk of $LTRL_RUN_DIR is full: $text"
  fi
  if printf '%s\n' "$text" >"$draft" 2>/dev/null; then mv -n -- "$draft" "$attempt/cause" || true; fi
  rm -f -- "$draft"
}

# ended STATUS: how what we are doing came to its end
ended() {
  if (( $1 == 137 )); then printf '%s was killed (SIGKILL), most likely for lack of memory' "$doing"; return; fi
  printf '%s ended with status %s' "$doing" "$1"
}

# moment WHAT: notes when something was reached.
moment() {
  printf '%s %s\n' "$(date +%s.%N)" "$1" >>"$attempt/moments" || true
}

# first_gone PID...: waits until one of our children has ended; `gone` is its pid and `status` its exit status.
# Asks again and again: `wait -n` misses a child that ended just before it was called, and a job would hang.
first_gone() {
  local pid
  while :; do
    for pid in "$@"; do
      kill -0 "$pid" 2>/dev/null && continue
      # shellcheck disable=SC2034  # not every script has more than one child
      gone=$pid status=0
      wait "$pid" || status=$?
      return
    done
    each_round
    sleep 0.2 || true # a signal to the whole group ends it too
  done
}
each_round() { :; }

doing='the start of the job'
finish() {
  local status=$?
  trap '' TERM INT USR2
  (( status == 0 )) || cause "$(ended "$status")"
}
trap finish EXIT
exec </dev/null 2>>"$attempt/stderr.log" >>"$attempt/stdout.log"

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
  { sleep 20; kill -KILL -- "-$driver"; } 2>/dev/null &
  reaper=$!
  set +m
}
trap 'stop 143 "told to stop (SIGTERM)"' TERM
trap 'stop 130 "interrupted (SIGINT)"' INT

start_driver() {
  doing='the driver'
  moment 'driver started'
  set -m # a process group of its own: a signal to it reaches all its children
  python -m ltrl.evaluation bundle/eval.json results >>"$attempt/stdout.log" 2>>"$attempt/stderr.log" &
  driver=$!
  set +m
}

end_driver() {
  kill -TERM -- "-$driver" 2>/dev/null || true # children that outlived it
  [[ -z $reaper ]] || kill -TERM -- "-$reaper" 2>/dev/null || true
}


doing='the environment of the cluster profile'
# `module load` and `activate` scripts read variables that are not set
doing='the setup of the cluster profile'
set +u
set -u
export PYTHONPATH="$LTRL_RUN_DIR"/bundle/payload.zip${PYTHONPATH:+":$PYTHONPATH"}

start_driver
first_gone "$driver"
end_driver
exit "${wanted:-$status}"
