#!/usr/bin/env bash
# Runs once, at the first start. The package starts the server as soon as it is installed: disk, certificates and config
# are there before it.
set -euo pipefail
set -a
. /etc/whimbrel/fdb.env
set +a

package() {
  curl -sSfL --retry 10 --retry-all-errors -o "/tmp/$1.deb" "$2"
  echo "$3  /tmp/$1.deb" | sha256sum --check --quiet
}
if [ "$SESSION_MANAGER" = true ]; then
  curl -sSfL --retry 10 -o /tmp/ssm.deb \
    "https://s3.$AWS_DEFAULT_REGION.amazonaws.com/amazon-ssm-$AWS_DEFAULT_REGION/latest/debian_$(dpkg --print-architecture)/amazon-ssm-agent.deb"
  dpkg -i /tmp/ssm.deb
fi
package clients "$CLIENTS_URL" "$CLIENTS_SHA256"
package server "$SERVER_URL" "$SERVER_SHA256"

# As the package would make it, only earlier.
getent passwd foundationdb >/dev/null ||
  useradd --system --user-group --home-dir /var/lib/foundationdb --no-create-home --shell /usr/sbin/nologin foundationdb
mkdir -p /etc/systemd/system/foundationdb.service.d
cat >/etc/systemd/system/foundationdb.service.d/order.conf <<'END'
[Unit]
Requires=fdb-disk.service
Wants=fdb-tls.service
After=fdb-disk.service fdb-tls.service fdb-credentials.service
END
systemctl daemon-reload
systemctl start fdb-disk.service fdb-tls.service
install -d -o foundationdb -g foundationdb -m 0700 /var/lib/foundationdb/data
# The client library rewrites the cluster file: it and its folder belong to the server's user.
chown foundationdb:foundationdb /etc/foundationdb /etc/foundationdb/fdb.cluster
DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i /tmp/clients.deb /tmp/server.deb
systemctl enable --now fdb-disk.service fdb-tls.service fdb-tls.timer fdb-credentials.service fdb-credentials.timer
systemctl enable --now foundationdb.service
if [ "$FIRST" = true ]; then systemctl enable --now --no-block fdb-bootstrap.service; fi
