: "${LTRL_RUN_DIR:?is not set; start this with ltrl submit}" "${LTRL_ATTEMPT:?is not set; start this with ltrl submit}"
attempt=$LTRL_RUN_DIR/attempts/$LTRL_ATTEMPT
mkdir -p "$attempt"
cd "$LTRL_RUN_DIR"

# cause TEXT: why the attempt failed. The first to say it is right: what fails later fails because of it.
cause() {
  printf 'ltrl: %s\n' "$1" >&2
  (set -o noclobber && printf '%s\n' "$1" >"$attempt/cause") 2>/dev/null || true
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
    sleep 0.2 || true # a signal to the whole group ends it too
  done
}
