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
# Who is not waited for, after a restart of the machine, is told so: that is no failure.
complete() {
  aws autoscaling complete-lifecycle-action --auto-scaling-group-name "$AUTOSCALING_GROUP" \
    --lifecycle-hook-name "$1" --lifecycle-action-result CONTINUE --instance-id "$(metadata instance-id)" ||
    echo "the group does not wait for $1"
}

until curl -sf -o /dev/null --max-time 2 http://127.0.0.1:7101/readyz; do sleep 2; done
complete "$HOOK_LAUNCHED"
until [ "$(metadata autoscaling/target-lifecycle-state || true)" = Terminated ]; do sleep 5; done
systemctl disable --now whimbrel-node.service
complete "$HOOK_LEAVING"
sleep infinity
