#!/usr/bin/env bash
# Writes the credentials of the machine's role, which hold for some hours, for the backup agent. It reads them at each
# new connection.
set -euo pipefail
umask 077
base=http://169.254.169.254/latest
token=$(curl -sf -X PUT "$base/api/token" -H 'X-aws-ec2-metadata-token-ttl-seconds: 60')
get() { curl -sf -H "X-aws-ec2-metadata-token: $token" "$base/meta-data/iam/security-credentials/$1"; }
install -d -o foundationdb -g foundationdb -m 0700 /run/foundationdb
get "$(get '')" | jq -e --arg host "@s3.$AWS_DEFAULT_REGION.amazonaws.com" \
  '{accounts: {($host): {api_key: .AccessKeyId, secret: .SecretAccessKey, token: .Token}}}' \
  >/run/foundationdb/credentials.new
chown foundationdb:foundationdb /run/foundationdb/credentials.new
mv /run/foundationdb/credentials.new /run/foundationdb/credentials.json
