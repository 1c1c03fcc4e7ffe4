# What the node must have; the first thing that it has not ends the job.
doing='the preflight check' node_tmp=${LTRL_NODE_TMP:-/tmp}
failed=$(python3 -m ltrl.preflight --node="$host" --out="$attempt/preflight" --bundle="$LTRL_RUN_DIR/bundle" \
  --bundle-hash="$LTRL_BUNDLE_HASH" --disk="$LTRL_RUN_DIR" --disk="$node_tmp" {{ preflight }}) || {
  status=$?
  [[ -z $failed ]] || cause "$host is not fit for the job: $failed"
  exit "$status"
}
