#!/bin/bash
# One node of the job's Ray cluster: ray_node.sh INDEX ADDRESS. Node 0 has Ray's head and the driver.
# shellcheck disable=SC2016,SC2317,SC2329  # quoted values expand nothing; some functions are called from traps
set -euo pipefail

{% include "attempt.sh" %}

index=$1 address=$2
read -r -a hosts <<<"$LTRL_RAY_HOSTS"
host=${hosts[index]}
lost=75 # exit status when Ray or a node is gone, which another attempt may survive (EX_TEMPFAIL)
if (( index == 0 )); then role='head'; else role=worker-$host; fi
exec >>"$attempt/ray-$role.log" 2>&1 # until here the job's own log

{% include "driver.sh" %}

ray='' session=''
finish() {
  local status=$?
  trap '' TERM INT # told again while cleaning up, this must not end half-way
  (( status == 0 || status == 143 )) || cause "$(ended "$status") on $host"
  # Ray's own logs are on this node only; they matter when something failed
  if (( status != 0 && status != 143 )) && [[ -d $session/session_latest/logs ]]; then
    { mkdir -p "$attempt/ray-logs" && cp -rL -- "$session/session_latest/logs" "$attempt/ray-logs/$host"; } || true
  fi
  if [[ -n $ray ]]; then # asked nicely, it would drain for up to 30 s and has nothing to save
    disown "$ray" 2>/dev/null || true
    kill -KILL -- "-$ray" 2>/dev/null || true
  fi
  [[ -z $session ]] || rm -rf -- "$session"
}
trap finish EXIT

# start_ray OPTION...
start_ray() {
  doing='the start of Ray'
  set -m # a process group of its own, so that `stop` reaches all of Ray on a worker
  local port=$LTRL_RAY_PORT
  ray start "$@" --block --disable-usage-stats --node-ip-address="$address" --num-gpus={{ gpus_per_node }} \
    --resources="{\"worker_units\": {{ gpus_per_node }}, \"slurm_managed_ray_cluster\": 1, \"ltrl_node_$index\": 1}" \
    --node-manager-port="$((port + 1))" --object-manager-port="$((port + 2))" \
    --runtime-env-agent-port="$((port + 3))" --dashboard-agent-grpc-port="$((port + 4))" \
    --dashboard-agent-listen-port="$((port + 5))" --metrics-export-port="$((port + 6))" \
    --min-worker-port="$((port + 10))" --max-worker-port="$((port + 639))" &
  ray=$!
  set +m
}

# listens: whether Ray's head can be reached
listens() {
  (exec 3<>"/dev/tcp/$LTRL_RAY_HEAD/$LTRL_RAY_PORT") 2>/dev/null
}

# known SECONDS: what tells the nodes that Ray has; waits so long at most until it has all, less if Ray ends.
# `ray status` hears of a node a second later, and starts for twice as long.
known() {
  local answered=0
  python3 - "$LTRL_RAY_HEAD:$LTRL_RAY_PORT" "${#hosts[@]}" "$1" 2>/dev/null <<'EOF' || answered=$?
import sys, time

try:
    from ray._raylet import GcsClient

    deadline = time.monotonic() + float(sys.argv[3])
    client = GcsClient(address=sys.argv[1])
    while True:
        alive = [node for node in client.get_all_node_info(timeout=5).values() if node.state == 0]
        found = {name for node in alive for name in node.resources_total if name.startswith("ltrl_node_")}
        if len(found) >= int(sys.argv[2]) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    print(*found)
except (ImportError, AttributeError, TypeError):
    sys.exit(3)
EOF
  (( answered != 3 )) || ray status --address "$LTRL_RAY_HEAD:$LTRL_RAY_PORT" 2>&1
}

# missing SECONDS: the nodes that Ray does not have yet; waits so long at most until none is
missing() {
  local names='' i found=()
  # each question starts Python, which takes a second of what the head itself needs to start
  if listens; then names=$(known "$1") || names=''; fi
  for i in "${!hosts[@]}"; do
    [[ $names =~ ltrl_node_$i([^0-9]|$) ]] || found+=("${hosts[i]}")
  done
  printf '%s' "${found[*]}"
}

# A driver may wait for ever for a node that is gone. Slurm takes minutes to notice one, Ray less than one.
look_at=0
each_round() {
  local absent
  if (( index > 0 || SECONDS < look_at )) || [[ -z $driver || -n $reaper ]]; then return 0; fi
  absent=$(missing 0)
  look_at=$((SECONDS + 10))
  if [[ -n $absent && $absent != "${hosts[0]}"* ]]; then # without the first one it is Ray that does not answer
    stop "$lost" "lost while the driver ran: $absent"
  fi
}

run_head() {
  moment 'Ray started'
  start_ray --head --port="$LTRL_RAY_PORT" --temp-dir="$session" --dashboard-port="$((LTRL_RAY_PORT + 7))"
  local absent left
  until left=$((deadline - SECONDS + 1)); absent=$(missing $((left < 30 ? left : 30))); [[ -z $absent ]]; do
    if ! kill -0 "$ray" 2>/dev/null; then
      cause "Ray's head on $host did not start; see ray-head.log"
      exit 1
    fi
    if (( SECONDS > deadline )); then
      cause "after ${LTRL_RAY_DEADLINE_SECONDS:-1800} s these of {{ num_nodes }} nodes with {{ gpus_per_node }} GPUs are missing in Ray: $absent"
      exit "$lost"
    fi
    sleep 0.2 || true # a signal to the whole group ends it too
  done
  moment 'Ray ready'
  printf 'ltrl: Ray has {{ num_nodes }} nodes with {{ gpus_per_node }} GPUs each after %s s\n' "$SECONDS"
  export RAY_ADDRESS=$LTRL_RAY_HEAD:$LTRL_RAY_PORT
  start_driver
  first_gone "$driver" "$ray"
  if [[ $gone == "$ray" ]]; then
    ray=''
    stop "$lost" "Ray's head on $host ended with status $status while the driver ran; see ray-head.log"
    first_gone "$driver"
  fi
  end_driver
  exit "${wanted:-$status}"
}

run_worker() {
  trap 'trap "" TERM; exit 143' TERM
  until listens; do
    if (( SECONDS > deadline )); then
      cause "$host cannot reach Ray's head at $LTRL_RAY_HEAD:$LTRL_RAY_PORT after ${LTRL_RAY_DEADLINE_SECONDS:-1800} s"
      exit "$lost"
    fi
    sleep 0.2 || true # a signal to the whole group ends it too
  done
  start_ray --address="$LTRL_RAY_HEAD:$LTRL_RAY_PORT"
  first_gone "$ray"
  cause "Ray ended with status $status on $host"
  exit "$lost"
}

{% include "environment.sh" %}

{% if not is_stage %}
{% include "preflight.sh" %}

{% endif %}
# On a disk of the node; the names of Ray's sockets below it must stay under 108 bytes.
session=$node_tmp/ltrl-ray-$SLURM_JOB_ID
export RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 RAY_USAGE_STATS_ENABLED=0 AUTOSCALER_UPDATE_INTERVAL_S=1
{% if services %}
if (( index == 0 )); then
{% include "services.sh" %}
fi
{% endif %}
deadline=$((SECONDS + ${LTRL_RAY_DEADLINE_SECONDS:-1800}))
if (( index == 0 )); then run_head; else run_worker; fi
