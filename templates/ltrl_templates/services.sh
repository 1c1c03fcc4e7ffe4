# Services run in jobs of their own; the training waits until they answer.
doing='the wait for the services of the run' LTRL_SERVICES='{{ services }}'
export LTRL_SERVICES
failed=$(python3 -m ltrl.service --run="$LTRL_RUN_DIR" {{ services }}) || {
  status=$?
  [[ -z $failed ]] || cause "$failed"
  exit "$status"
}
