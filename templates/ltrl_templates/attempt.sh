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
