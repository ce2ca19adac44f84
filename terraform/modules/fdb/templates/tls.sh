#!/usr/bin/env bash
# Fetches certificate, key and authority from the secrets store. FoundationDB reads them again by itself when
# they change.
set -euo pipefail
umask 077
folder=/etc/foundationdb/tls
mkdir -p "$folder"
# A unit that failed once takes those down that require it, also where it would succeed the next time.
until secret=$(aws secretsmanager get-secret-value --secret-id "$SECRET_ARN" --query SecretString --output text); do
  if [ -f "$folder/cert.pem" ]; then exit 1; fi
  sleep 5
done
for name in ca cert key; do
  jq -er --arg name "$name" '.[$name]' <<<"$secret" >"$folder/$name.pem.new"
done
cat "$folder/ca.pem.new" /etc/ssl/certs/ca-certificates.crt >"$folder/ca-and-system.pem.new"
chown -R foundationdb:foundationdb "$folder"
for name in ca cert key ca-and-system; do
  cmp -s "$folder/$name.pem.new" "$folder/$name.pem" || mv "$folder/$name.pem.new" "$folder/$name.pem"
  rm -f "$folder/$name.pem.new"
done
