#!/usr/bin/env bash
# Fetches what the node needs into memory: nothing of it is written to a disk. With `token-keys` only the keys that
# verify tokens.
set -euo pipefail
umask 077
folder=/run/whimbrel-secrets
install -d -o whimbrel -g whimbrel -m 0700 "$folder"

# A unit that failed once takes those down that require it, also where it would succeed the next time: it goes on
# until it has all.
fetch() { until "$@"; do sleep 5; done; }
secret() { fetch aws secretsmanager get-secret-value --secret-id "$1" --query SecretString --output text; }
# Puts standard input into file $1, at once and for the node alone.
put() {
  cat >"$folder/$1.new"
  chown whimbrel:whimbrel "$folder/$1.new"
  mv "$folder/$1.new" "$folder/$1"
}

keys=$(secret "$TOKEN_KEYS_ARN")
[ "$keys" = "$(cat "$folder/token.pub.pem" 2>/dev/null)" ] || printf '%s\n' "$keys" | put token.pub.pem
[ "${1:-}" != token-keys ] || exit 0

link=$(secret "$LINK_SECRET_ARN")
fdb=$(secret "$FDB_SECRET_ARN")
for name in ca cert key; do
  jq -er --arg name "$name" '.[$name]' <<<"$link" | put "link.$name.pem"
  jq -er --arg name "$name" '.[$name]' <<<"$fdb" | put "fdb.$name.pem"
done
fetch aws ssm get-parameter --with-decryption --name "$CONFIG_PARAMETER" --query Parameter.Value --output text | put node.toml

# The load balancer takes any certificate of its targets; this one lives as long as the machine runs.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=$(hostname)" \
  -keyout "$folder/proxy.key" -out "$folder/proxy.crt" 2>/dev/null
cat "$folder/proxy.crt" "$folder/proxy.key" >"$folder/proxy.pem"
rm "$folder/proxy.crt" "$folder/proxy.key"

# FoundationDB's client rewrites the cluster file, so it has a copy; what it has learned is kept.
install -d -o whimbrel -g whimbrel -m 0700 /var/lib/whimbrel /var/lib/whimbrel/fdb
[ -f /var/lib/whimbrel/fdb/fdb.cluster ] ||
  install -o whimbrel -g whimbrel -m 0600 /etc/whimbrel/fdb.cluster /var/lib/whimbrel/fdb/fdb.cluster
