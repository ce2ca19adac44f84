#!/usr/bin/env bash
# The peer of `whimbrel bench`: PostgreSQL on three nodes. Each writes a partition of its own and has
# copies of the others by logical replication. Every commit is synced to disk before it is answered.
#
#   docs/performance/postgres.sh [accept|visibility|catch-up|history]...     default: all
#
#   CLIENTS=64 SECONDS_EACH=10 WARMUP=2 RATE=1000 MESSAGES=50000 HISTORY=100000
#   FOLDER=/var/tmp    must be on the disk on which the regions of Whimbrel keep their data
#
# Needs PostgreSQL 15 (Debian: postgresql-15, which has pgbench). It refuses to run as root, so root
# becomes the user `postgres` here. All is on 127.0.0.1, in a folder that is deleted at the end.
set -euo pipefail

if [ "$(id -u)" = 0 ]; then
  exec runuser -u "${PGUSER_OS:-postgres}" -- env -C / \
    CLIENTS="${CLIENTS:-}" SECONDS_EACH="${SECONDS_EACH:-}" WARMUP="${WARMUP:-}" RATE="${RATE:-}" \
    MESSAGES="${MESSAGES:-}" HISTORY="${HISTORY:-}" FOLDER="${FOLDER:-}" \
    bash -s -- "$@" <"$0"
fi

CLIENTS=${CLIENTS:-64}
SECONDS_EACH=${SECONDS_EACH:-10}
WARMUP=${WARMUP:-2}
RATE=${RATE:-1000}
MESSAGES=${MESSAGES:-50000}
HISTORY=${HISTORY:-100000}
REGIONS=(eu us ap)
PATH=/usr/lib/postgresql/15/bin:$PATH
export PGUSER=postgres PGDATABASE=postgres PGHOST=127.0.0.1 PGOPTIONS='-c client_min_messages=warning'
postgres --version

folder=$(mktemp -d "${FOLDER:-/var/tmp}/whimbrel-peer.XXXXXX")
declare -A port
trap stop_all EXIT

stop_all() {
  for region in "${REGIONS[@]}"; do
    # By the process id that the server wrote down itself.
    pg_ctl -D "$folder/$region" stop -s -m immediate 2>/dev/null || true
  done
  rm -rf "$folder"
}

free_port() {
  local candidate=$((20000 + RANDOM % 10000))
  while (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null; do
    candidate=$((candidate + 1))
  done
  echo "$candidate"
}

sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 -p "${port[$1]}" "${@:2}"; }

start() { pg_ctl -D "$folder/$1" -l "$folder/$1.log" start -s -w; }

make_cluster() {
  for region in "${REGIONS[@]}"; do
    initdb -D "$folder/$region" -U postgres -A trust -E UTF8 --locale=C >/dev/null
    port[$region]=$(free_port)
    cat >>"$folder/$region/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = ${port[$region]}
unix_socket_directories = ''
max_connections = 300
fsync = on
synchronous_commit = on
wal_level = logical
max_worker_processes = 16
CONF
    start "$region"
    sql "$region" <<'SQL'
CREATE TABLE messages (
  region       text        NOT NULL,
  seq          bigint      NOT NULL,
  conversation int         NOT NULL,
  sender       text        NOT NULL,
  body         text        NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (region, seq)
) PARTITION BY LIST (region);
CREATE TABLE messages_eu PARTITION OF messages FOR VALUES IN ('eu');
CREATE TABLE messages_us PARTITION OF messages FOR VALUES IN ('us');
CREATE TABLE messages_ap PARTITION OF messages FOR VALUES IN ('ap');
CREATE SEQUENCE seq;
SQL
    sql "$region" -c "CREATE PUBLICATION own FOR TABLE messages_$region"
  done
  for here in "${REGIONS[@]}"; do
    for there in "${REGIONS[@]}"; do
      [ "$here" = "$there" ] || sql "$here" -c "CREATE SUBSCRIPTION ${here}_from_$there
        CONNECTION 'host=127.0.0.1 port=${port[$there]} user=postgres dbname=postgres'
        PUBLICATION own"
    done
  done
  # Lengths as those of the real texts: 80 to 200 bytes, 121 in the mean.
  cat >"$folder/insert.sql" <<'SQL'
\set length random_exponential(80, 200, 2)
\set user random(1, 200)
\set conversation random(1, 16)
INSERT INTO messages_eu (region, seq, conversation, sender, body) VALUES ('eu', nextval('seq'), :conversation, 'user-' || :user, left(repeat(md5(:user::text), 7), :length::int));
SQL
}

# Processor time of a server, in ticks: its own, that of children that ended, of those that live.
ticks() {
  local main
  main=$(head -1 "$folder/$1/postmaster.pid")
  { awk '{ print $14 + $15 + $16 + $17 }' "/proc/$main/stat"
    for child in $(pgrep -P "$main"); do
      awk '{ print $14 + $15 }' "/proc/$child/stat" 2>/dev/null || true
    done
  } | awk '{ sum += $1 } END { print sum }'
}

# Percentiles of numbers on standard input, given in microseconds and shown in milliseconds.
percentiles() {
  sort -n | awk -v name="$1" '{ all[NR] = $1 } END {
    if (!NR) { print name ": nothing was measured"; exit 1 }
    at[1] = 0.5; at[2] = 0.9; at[3] = 0.99; at[4] = 0.999
    printf "%s: %d, ms:", name, NR
    for (i = 1; i <= 4; i++) {
      rank = int(NR * at[i]); if (rank < NR * at[i]) rank++
      printf "  p%s %.2f", at[i] * 100, all[rank] / 1000
    }
    printf "  max %.2f\n", all[NR] / 1000 }'
}

insert() { # region, then options of pgbench
  (cd "$folder" && pgbench -n -M prepared -j 2 -p "${port[$1]}" -f insert.sql "${@:2}")
}

accept() {
  insert eu -c "$CLIENTS" -T "$WARMUP" >/dev/null 2>&1
  local -A before
  for region in "${REGIONS[@]}"; do before[$region]=$(ticks "$region"); done
  insert eu -c "$CLIENTS" -T "$SECONDS_EACH" -l --log-prefix=accept >"$folder/accept.out" 2>&1
  local done per_second
  done=$(awk '/^number of transactions actually processed/ { print $NF + 0 }' "$folder/accept.out")
  per_second=$(awk '/^tps/ { print $3 }' "$folder/accept.out")
  echo "accept in eu: closed loop, $CLIENTS clients: $done messages, $per_second/s"
  cat "$folder"/accept.* | awk '/^[0-9]+ [0-9]+ [0-9]+ / { print $3 }' | percentiles latency
  printf 'cpu us/message:'
  for region in "${REGIONS[@]}"; do
    awk -v t="$(($(ticks "$region") - before[$region]))" -v n="$done" -v hz="$(getconf CLK_TCK)" \
      -v name="$region" 'BEGIN { printf "  %s %.0f", name, t * 1e6 / hz / n }'
  done
  echo
  rm -f "$folder"/accept.*
  caught_up us
  caught_up ap
}

# Waits until a region has all that eu wrote.
caught_up() {
  local wanted
  wanted=$(sql eu -c 'SELECT count(*) FROM messages_eu')
  for _ in $(seq 6000); do
    [ "$(sql "$1" -c 'SELECT count(*) FROM messages_eu' 2>/dev/null || echo none)" = "$wanted" ] && return
    sleep 0.02
  done
  echo "$1 did not get everything" >&2
  return 1
}

# A reader in each other region polls for rows every millisecond and writes down when it saw each.
# From the moment at which the insert runs: later than the intended time of `whimbrel bench`.
visibility() {
  for region in us ap; do
    sql "$region" <<'SQL'
CREATE TABLE IF NOT EXISTS seen (seq bigint PRIMARY KEY, us bigint NOT NULL);
TRUNCATE seen;
CREATE OR REPLACE PROCEDURE poll(duration interval) LANGUAGE plpgsql AS $$
DECLARE
  ends timestamptz := clock_timestamp() + duration;
  last bigint := (SELECT coalesce(max(seq), 0) FROM messages_eu);
BEGIN
  WHILE clock_timestamp() < ends LOOP
    -- Rows become visible in the order of their commits, not of their numbers: look back a little.
    INSERT INTO seen
      SELECT seq, extract(epoch FROM clock_timestamp() - created_at) * 1000000
      FROM messages_eu m
      WHERE region = 'eu' AND seq > last - 300 AND created_at > ends - duration
        AND NOT EXISTS (SELECT 1 FROM seen s WHERE s.seq = m.seq);
    last := greatest(last, (SELECT coalesce(max(seq), 0) FROM seen));
    COMMIT;
    PERFORM pg_sleep(0.001);
  END LOOP;
END $$;
SQL
  done
  local pollers=()
  for region in us ap; do
    # What it writes down need not be synced.
    sql "$region" -c 'SET synchronous_commit = off' \
      -c "CALL poll(interval '$((SECONDS_EACH + WARMUP + 3)) seconds')" &
    pollers+=("$!")
  done
  insert eu -c "$CLIENTS" -R "$RATE" -T "$((SECONDS_EACH + WARMUP))" -l --log-prefix=visibility \
    >"$folder/visibility.out" 2>&1
  wait "${pollers[@]}"
  echo "visibility: open loop at $RATE/s for $((SECONDS_EACH + WARMUP)) s"
  # With -R the time counts from the intended one.
  cat "$folder"/visibility.* | awk '/^[0-9]+ [0-9]+ [0-9]+ / { print $3 }' | percentiles latency
  for region in us ap; do
    sql "$region" -c 'SELECT us FROM seen' | percentiles "seen in $region"
  done
  rm -f "$folder"/visibility.*
}

catch_up() {
  caught_up ap
  pg_ctl -D "$folder/ap" stop -s -m immediate
  insert eu -c "$CLIENTS" -t "$(((MESSAGES + CLIENTS - 1) / CLIENTS))" >/dev/null 2>&1
  local began started ended
  began=$(date +%s%N)
  start ap
  started=$(date +%s%N)
  caught_up ap
  ended=$(date +%s%N)
  awk -v n="$MESSAGES" -v start=$((started - began)) -v all=$((ended - began)) 'BEGIN {
    printf "catch-up: ap answered %.2f s after it was started, and had everything after %.2f s", start / 1e9, all / 1e9
    printf "; %.0f messages/s\n", n / (all > start ? (all - start) / 1e9 : 0.01) }'
}

history() {
  # In us, of messages of its own: here nothing else goes on.
  sql us -c "INSERT INTO messages_us (region, seq, conversation, sender, body)
      SELECT 'us', nextval('seq'), 1, 'user-' || n % 200, left(repeat(md5(n::text), 7), 80 + n % 83)
      FROM generate_series(1, $HISTORY) n" \
    -c 'CREATE INDEX IF NOT EXISTS timeline ON messages_us (conversation, seq)' \
    -c 'VACUUM ANALYZE messages_us'
  local first last columns='seq, sender, body, created_at'
  first=$(sql us -c 'SELECT min(seq) + 50 FROM messages_us')
  last=$(sql us -c 'SELECT max(seq) FROM messages_us')
  echo "SELECT $columns FROM messages_us WHERE conversation = 1 ORDER BY seq DESC LIMIT 50;" \
    >"$folder/newest.sql"
  printf '\\set before random(%s, %s)\n%s\n' "$first" "$last" \
    "SELECT $columns FROM messages_us WHERE conversation = 1 AND seq < :before ORDER BY seq DESC LIMIT 50;" \
    >"$folder/random.sql"
  for kind in newest random; do
    (cd "$folder" && pgbench -n -M prepared -c 1 -T "$SECONDS_EACH" -p "${port[us]}" -f "$kind.sql" \
      -l --log-prefix="$kind-log" >/dev/null 2>&1)
    cat "$folder/$kind-log".* | awk '{ print $3 }' | percentiles "history of $HISTORY, $kind pages of 50"
    rm -f "$folder/$kind-log".*
  done
}

make_cluster
for what in "${@:-all}"; do
  case $what in
    accept) accept ;;
    visibility) visibility ;;
    catch-up) catch_up ;;
    history) history ;;
    all)
      accept
      visibility
      catch_up
      history
      ;;
    *) echo "unknown: $what" >&2 && exit 2 ;;
  esac
done
