#!/usr/bin/env bash
# Tells the group when the node is ready, so that it goes on with its rollout; then waits until the group wants
# this machine gone, stops the node and says so.
set -euo pipefail

base=http://169.254.169.254/latest
metadata() {
  local token
  token=$(curl -sf -X PUT "$base/api/token" -H 'X-aws-ec2-metadata-token-ttl-seconds: 60')
  curl -sf -H "X-aws-ec2-metadata-token: $token" "$base/meta-data/$1"
}
# Says something of a hook to the group, until it has heard it. Who is not waited for, after a restart of the machine, is
# told so: that is no failure.
tell() { # call, hook, and what more the call takes
  local said
  until said=$(aws autoscaling "$1" --auto-scaling-group-name "$AUTOSCALING_GROUP" --lifecycle-hook-name "$2" \
    --instance-id "$(metadata instance-id)" "${@:3}" 2>&1); do
    echo "$said"
    if [[ $said == *'No active Lifecycle Action'* ]]; then break; fi
    sleep 5
  done
}
complete() { tell complete-lifecycle-action "$1" --lifecycle-action-result CONTINUE; }

# A region that takes in what the others have may need hours: the group hears that the node lives.
heard=$SECONDS
until curl -sf -o /dev/null --max-time 2 http://127.0.0.1:7101/readyz; do
  if ((SECONDS - heard > 600)) && systemctl is-active --quiet whimbrel-node.service; then
    tell record-lifecycle-action-heartbeat "$HOOK_LAUNCHED"
    heard=$SECONDS
  fi
  sleep 2
done
complete "$HOOK_LAUNCHED"
until [ "$(metadata autoscaling/target-lifecycle-state || true)" = Terminated ]; do sleep 5; done
systemctl disable --now whimbrel-node.service
complete "$HOOK_LEAVING"
sleep infinity
