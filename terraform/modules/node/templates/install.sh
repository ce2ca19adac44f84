#!/usr/bin/env bash
# Runs once, at the first start.
set -euo pipefail
set -a
. /etc/whimbrel/node.env
set +a

sysctl --quiet --system
useradd --system --home-dir /var/lib/whimbrel --shell /usr/sbin/nologin whimbrel
if [ "$SESSION_MANAGER" = true ]; then
  curl -sSfL --retry 10 -o /tmp/ssm.deb \
    "https://s3.$AWS_DEFAULT_REGION.amazonaws.com/amazon-ssm-$AWS_DEFAULT_REGION/latest/debian_$(dpkg --print-architecture)/amazon-ssm-agent.deb"
  dpkg -i /tmp/ssm.deb
fi
curl -sSfL --retry 10 --retry-all-errors -o /tmp/clients.deb "$CLIENTS_URL"
echo "$CLIENTS_SHA256  /tmp/clients.deb" | sha256sum --check --quiet
dpkg -i /tmp/clients.deb
aws s3 cp --only-show-errors "s3://$RELEASE_BUCKET/$RELEASE_KEY" /tmp/whimbrel-node
echo "$RELEASE_SHA256  /tmp/whimbrel-node" | sha256sum --check --quiet
install -m 0755 /tmp/whimbrel-node /usr/local/bin/whimbrel-node

mkdir -p /etc/systemd/system/haproxy.service.d
cat >/etc/systemd/system/haproxy.service.d/order.conf <<'END'
[Unit]
Requires=whimbrel-secrets.service
After=whimbrel-secrets.service
END
systemctl daemon-reload
systemctl restart chrony.service
systemctl enable --now whimbrel-secrets.service whimbrel-token-keys.timer
systemctl enable --now whimbrel-node.service haproxy.service
systemctl restart haproxy.service
systemctl enable --now whimbrel-lifecycle.service
