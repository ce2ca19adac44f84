#!/usr/bin/env bash
# Watches a region that runs something new. Ends with 0 once it was well for so long, with 1 at the first
# alert about it, or when its nodes are not all up or cannot be seen: then roll back. Needs curl and jq.
#
#   docs/operations/bake.sh http://prometheus:9090 eu 60      # minutes; fractions are fine
set -euo pipefail

usage='usage: bake.sh PROMETHEUS REGION MINUTES, such as bake.sh http://localhost:9090 eu 60'
prometheus=${1:?$usage} region=${2:?$usage} minutes=${3:?$usage}
[[ $region =~ ^[a-z][a-z0-9-]{0,31}$ ]] || { echo "\`$region\` is no region's name; $usage" >&2; exit 2; }
[[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || { echo "\`$minutes\` is no number of minutes; $usage" >&2; exit 2; }
step=${BAKE_STEP_S:-15}

ask() {
  curl -fsS --max-time 10 --data-urlencode "query=$1" "$prometheus/api/v1/query" | jq -er '.data.result'
}

# `for` of the alerts has passed before they fire: what is burning must be seen before the bake is over.
end=$(jq -n "now + $minutes * 60 | floor")
while :; do
  # Prometheus may be away for a moment; without it nothing is known, so that counts as not well.
  firing=$(ask "ALERTS{alertstate=\"firing\",region=\"$region\"} or ALERTS{alertstate=\"firing\",peer=\"$region\"}") \
    || { echo "$prometheus does not answer: roll back, or look yourself" >&2; exit 1; }
  nodes=$(ask "up{job=\"whimbrel\",region=\"$region\"}")
  if [[ $(jq length <<<"$firing") != 0 ]]; then
    jq -r '.[].metric | "\(.alertname) fires (\(.severity)): docs/operations/runbooks"' <<<"$firing" >&2
    exit 1
  fi
  if [[ $(jq '[.[] | select(.value[1] == "1")] | length' <<<"$nodes") != "$(jq length <<<"$nodes")" || $nodes == '[]' ]]; then
    echo "not all nodes of $region are up: $(jq -c '[.[] | {(.metric.instance): .value[1]}]' <<<"$nodes")" >&2
    exit 1
  fi
  left=$((end - $(date +%s)))
  if ((left <= 0)); then break; fi
  echo "$region is well; $left s to go"
  sleep "$((left < step ? left : step))"
done
echo "$region was well for $minutes minutes"
