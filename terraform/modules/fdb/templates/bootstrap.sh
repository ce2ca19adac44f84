#!/usr/bin/env bash
# On the first coordinator: makes the database if there is none, and starts the continuous backup if none runs.
set -euo pipefail

# An existing database refuses `configure new`, so that a machine that was replaced changes nothing.
until
  said=$(timeout 60 fdbcli --exec "configure new $REDUNDANCY_MODE $STORAGE_ENGINE" 2>&1)
  [[ "$said" == *'Database created'* || "$said" == *'already exists'* ]]
do
  echo "waiting for the coordinators: $said"
  sleep 10
done
until [[ "$(timeout 60 fdbcli --exec 'status minimal' 2>&1)" == *'is available'* ]]; do sleep 10; done

# A database that is made later backs up beside this one, not into it.
backup=whimbrel-$(date -u +%Y%m%dT%H%M%SZ)
# As for the agents: the bucket's certificate is signed by a public authority.
export FDB_TLS_CA_FILE=/etc/foundationdb/tls/ca-and-system.pem FDB_TLS_VERIFY_PEERS=Check.Valid=1
until
  if fdbbackup status 2>&1 | grep -Eq 'is in progress|is restorable'; then exit; fi
  fdbbackup start -z -s "$BACKUP_SNAPSHOT_SECONDS" --blob-credentials /run/foundationdb/credentials.json \
    -d "blobstore://@s3.$AWS_DEFAULT_REGION.amazonaws.com/$backup?bucket=$BACKUP_BUCKET&region=$AWS_DEFAULT_REGION"
do
  sleep 30
done
