#!/usr/bin/env bash
# Watches a region that runs something new. Ends with 0 once it was well for so long, with 1 at the first
# alert about it, or when its nodes are not all up for BAKE_GRACE_S (120) seconds, or cannot be seen: then roll
# back. With BAKE_SINCE=$(date +%s), taken before the deployment, alerts that were on their way by then do not
# count. Needs curl and jq; what else curl needs to get there (signatures, say) stands in its ~/.curlrc.
#
#   docs/operations/bake.sh http://prometheus:9090 eu 60      # minutes; fractions are fine
set -euo pipefail

usage='usage: bake.sh PROMETHEUS REGION MINUTES, such as bake.sh http://localhost:9090 eu 60'
prometheus=${1:?$usage} region=${2:?$usage} minutes=${3:?$usage}
since=${BAKE_SINCE:-0} grace=${BAKE_GRACE_S:-120} step=${BAKE_STEP_S:-15}
[[ $region =~ ^[a-z][a-z0-9-]{0,31}$ ]] || { echo "\`$region\` is no region's name; $usage" >&2; exit 2; }
[[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || { echo "\`$minutes\` is no number of minutes; $usage" >&2; exit 2; }
for seconds in "$since" "$grace" "$step"; do
  [[ $seconds =~ ^[0-9]+$ ]] || { echo "BAKE_SINCE, BAKE_GRACE_S and BAKE_STEP_S are whole seconds, not \`$seconds\`" >&2; exit 2; }
done

ask() {
  curl -fsS --max-time 10 --data-urlencode "query=$1" "$prometheus/api/v1/query" | jq -er '.data.result'
}

# ALERTS_FOR_STATE is when an alert's condition began to hold.
new="ignoring (alertstate) (ALERTS_FOR_STATE >= $since)"
alerts="ALERTS{alertstate=\"firing\",region=\"$region\"} and $new or ALERTS{alertstate=\"firing\",peer=\"$region\"} and $new"
# `for` of the alerts has passed before they fire: what is burning must be seen before the bake is over.
end=$(jq -n "now + $minutes * 60 | floor")
up_at=$(date +%s)
while :; do
  # Prometheus may be away for a moment; without it nothing is known, so that counts as not well.
  firing=$(ask "$alerts") || { echo "$prometheus does not answer: roll back, or look yourself" >&2; exit 1; }
  nodes=$(ask "up{job=\"whimbrel\",region=\"$region\"}")
  now=$(date +%s)
  if [[ $(jq length <<<"$firing") != 0 ]]; then
    # A runbook is called as its alert: WhimbrelRegionDown, region-down.md.
    page='ltrimstr("Whimbrel") | gsub("(?<capital>[A-Z])"; "-" + (.capital | ascii_downcase)) | ltrimstr("-")'
    jq -r ".[].metric | \"\(.alertname) fires (\(.severity)): docs/operations/runbooks/\(.alertname | $page).md\"" <<<"$firing" >&2
    exit 1
  fi
  if [[ $nodes != '[]' && $(jq 'all(.[]; .value[1] == "1")' <<<"$nodes") == true ]]; then
    up_at=$now
    said="$region is well"
  else
    # One that starts, or leaves, answers nobody for a moment.
    said="not all nodes of $region are up: $(jq -c '[.[] | {(.metric.instance): .value[1]}]' <<<"$nodes")"
    if ((now - up_at >= grace)); then
      echo "$said" >&2
      exit 1
    fi
  fi
  left=$((end - now))
  if ((left <= 0 && up_at == now)); then break; fi
  if ((left < 1)); then
    echo "$said; it has $((grace - now + up_at)) s to come back"
    left=$step
  else
    echo "$said; $left s to go"
  fi
  sleep "$((left < step ? left : step))"
done
echo "$region was well for $minutes minutes"
