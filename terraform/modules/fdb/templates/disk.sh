#!/usr/bin/env bash
# Mounts the local NVMe disks, as one, where FoundationDB keeps its data. They are empty after the first start, and after
# every stop of the instance: the process then comes up without data, and the cluster heals it.
set -euo pipefail

if mountpoint -q /var/lib/foundationdb; then exit; fi
mapfile -t disks < <(lsblk --nodeps --noheadings --paths --output NAME,MODEL |
  awk '/Amazon EC2 NVMe Instance Storage/ { print $1 }')
[ "${#disks[@]}" -gt 0 ] || { echo 'this machine has no local NVMe disk' >&2; exit 1; }
disk=${disks[0]}
if [ "${#disks[@]}" -gt 1 ]; then
  # After a restart the kernel has assembled it already, under a number of its own choice.
  disk=/dev/md/foundationdb
  [ -b "$disk" ] || mdadm --assemble --scan || true
  [ -b "$disk" ] || mdadm --create "$disk" --run --level=0 --name=foundationdb --homehost=any \
    --raid-devices="${#disks[@]}" "${disks[@]}"
fi
# Only a disk without any file system is formatted.
blkid "$disk" >/dev/null || mkfs.xfs -q "$disk"
mkdir -p /var/lib/foundationdb
mount -o noatime,discard "$disk" /var/lib/foundationdb
if id foundationdb >/dev/null 2>&1; then
  install -d -o foundationdb -g foundationdb -m 0700 /var/lib/foundationdb/data
fi
