#!/usr/bin/env bash
# Runs postbackd under a real systemd and shows what only that can show: start, reload, a refused reload, credentials, the
# made-up user, hardening, a restart behind the socket unit under load, and the watchdog.
#
#   systemd/under-systemd.sh BINARY [DIRECTORY]
#
# For a machine (or container) where systemd is not PID 1: it starts one in namespaces of its own. Needs root, cgroup v2
# somewhere under /sys/fs/cgroup, and debootstrap, which fetches a small Debian into DIRECTORY (kept, about 250 MB; default
# /var/tmp/postbackd-systemd). A first run takes a minute or two, a later one twenty seconds.
# Exit code 0 only if everything came out right.
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
binary=$(realpath "$1")
root=${2:-/var/tmp/postbackd-systemd}
here=$(cd "$(dirname "$0")" && pwd)

if [ ! -e "$root/usr/lib/systemd/systemd" ]; then
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,curl,procps bookworm "$root" >/dev/null
fi
for cgroup in /sys/fs/cgroup/unified /sys/fs/cgroup ""; do
  [ ! -e "$cgroup/cgroup.procs" ] || break
done
[ -n "$cgroup" ] || { echo "no cgroup v2 found"; exit 1; }
slice=$cgroup/postbackd-trial-$$
mkdir "$slice"

# --- what is tried -----------------------------------------------------------------------------------------------------
install -m 755 "$binary" "$root/usr/bin/postbackd"
install -m 644 "$here/postbackd.service" "$here/postbackd.socket" "$root/etc/systemd/system/"
rm -rf "$root/etc/postbackd" "$root/var/lib/private/postbackd" "$root/var/lib/postbackd" "$root/etc/systemd/system/postbackd."*.d
install -d -m 755 "$root/etc/postbackd" "$root/etc/systemd/system/postbackd.service.d"
install -d -m 700 "$root/etc/postbackd/credentials"
printf 'trial-token-0123456789' >"$root/etc/postbackd/credentials/app_token"
chmod 600 "$root/etc/postbackd/credentials/app_token"
cat >"$root/etc/postbackd/config.toml" <<'TOML'
[server]
listen = ["127.0.0.1:8460", "unix:/run/postbackd/api.sock"]
[storage]
reserve = "1MiB"
[sources.app]
token = { credential = "app_token" }
TOML
cat >"$root/etc/systemd/system/postbackd.service.d/trial.conf" <<'UNIT'
[Service]
LoadCredential=app_token:/etc/postbackd/credentials/app_token
UNIT

# --- systemd -----------------------------------------------------------------------------------------------------------
cat >"$root/start" <<'SH'
#!/bin/sh
# Makes the directory the root of the new mount namespace, and becomes systemd there.
set -e
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
  touch dev/$node
  mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s /proc/self/fd dev/fd
pivot_root . .
umount -l .
# As systemd does where it believes itself on a machine of its own: credentials reach a service through shared mounts.
mount --make-rshared /
exec env -i container=trial PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/systemd/systemd --log-target=journal --show-status=no
SH
rm -f "$root/etc/machine-id" && touch "$root/etc/machine-id"
(
  echo $BASHPID >"$slice/cgroup.procs"
  exec unshare --pid --mount --uts --ipc --cgroup --net --fork --kill-child sh "$root/start" "$root" </dev/null
) &
unshared=$!
cleanup() {
  kill -KILL "$unshared" 2>/dev/null || true
  wait "$unshared" 2>/dev/null || true
  for _ in $(seq 50); do
    find "$slice" -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.1
  done
}
trap cleanup EXIT
one=
for _ in $(seq 100); do
  one=$(pgrep -P "$unshared" -x systemd || true)
  [ -z "$one" ] || break
  sleep 0.1
done
[ -n "$one" ] || { echo "systemd does not start"; exit 1; }
inside() { nsenter -t "$one" --mount --pid --uts --ipc --cgroup --net --root --wd -- "$@"; }
for _ in $(seq 150); do
  inside systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded' && break
  sleep 0.2
done

# --- the trial ---------------------------------------------------------------------------------------------------------
failed=0
ok() { printf 'ok    %s\n' "$*"; }
bad() {
  printf 'BAD   %s\n' "$*"
  [ "$failed" = 1 ] || inside journalctl --no-pager -n 30 -o cat -u 'postbackd*' | sed 's/^/      /'
  failed=1
}
check() {
  local what=$1
  shift
  local run=inside
  [ "$1" != is ] || run=
  local said
  if said=$($run "$@" 2>&1); then ok "$what"; else bad "$what: $said"; fi
}
property() { inside systemctl show postbackd -P "$1"; }
is() { [ "$(property "$1")" = "$2" ]; }

printf 'systemd %s\n' "$(inside systemctl --version | head -n 1 | cut -d' ' -f2)"

inside systemctl daemon-reload
check "start returns when the daemon is ready" systemctl start postbackd
check "its status line says so" is StatusText running
pid=$(property MainPID)
check "it runs as a user made up at start" sh -c "uid=\$(ps -o uid= -p $pid) && [ \$uid -ge 61184 ] && [ \$uid -le 65519 ]"
check "a credential is the source's token: an event is taken" curl -fsS http://127.0.0.1:8460/v1/events \
  -H 'Authorization: Bearer trial-token-0123456789' -H 'Content-Type: application/json' -d '{"event":"deposit","event_id":"1"}'
check "the Unix socket answers, also to the command line" postbackd status --url unix:/run/postbackd/api.sock

cat >>"$root/etc/postbackd/config.toml" <<'TOML'
[destinations.crm]
kind = "webhook"
url = "https://crm.example.com/hook"
TOML
check "systemctl reload applies a change" systemctl reload postbackd
check "  the destination is there" sh -c "curl -sS http://127.0.0.1:8460/status | grep -q '\"crm\"'"
good=$(cat "$root/etc/postbackd/config.toml")
printf 'kynd = "webhook"\n' >>"$root/etc/postbackd/config.toml"
if inside systemctl reload postbackd 2>/dev/null; then bad "a refused reload fails"; else ok "a refused reload fails"; fi
check "  the daemon goes on" is MainPID "$pid"
check "  the status line says why" sh -c "systemctl show postbackd -P StatusText | grep -q 'refused.*kynd'"
check "  the journal says why" sh -c "journalctl -u postbackd | grep -q kynd"
inside systemctl status postbackd --no-pager --lines=0 | grep -E 'Active:|Status:|Process:.*reload' | sed 's/^ */      /'
printf '%s\n' "$good" >"$root/etc/postbackd/config.toml"
check "  and the next one works" systemctl reload postbackd

# A loop of one connection each, as many as come, while the service restarts behind its socket.
inside systemctl stop postbackd
check "the socket unit listens" systemctl start postbackd.socket
check "the first connection starts the service" curl -fsS http://127.0.0.1:8460/healthz
inside sh -c 'until [ -e /run/stop ]; do
    code=$(curl -s -o /dev/null -w "%{http_code}" --max-time 60 http://127.0.0.1:8460/v1/events \
      -H "Authorization: Bearer trial-token-0123456789" -H "Content-Type: application/json" \
      -d "{\"event\":\"deposit\",\"event_id\":\"$(cat /proc/sys/kernel/random/uuid)\"}")
    echo "$? $code"
  done >/run/answers' &
load=$!
for _ in 1 2 3; do
  sleep 0.5
  inside systemctl restart postbackd
done
sleep 0.5
inside touch /run/stop
wait "$load"
answers=$(inside cat /run/answers | wc -l)
refused=$(inside grep -vc '^0 202$' /run/answers || true)
if [ "$answers" -ge 20 ] && [ "$refused" = 0 ]; then
  ok "three restarts under load: $answers requests, none refused"
else
  bad "three restarts under load: $answers requests, $refused refused: $(inside sort /run/answers | uniq -c | tr '\n' ';')"
fi

# The limit is cut for the trial: nobody wants to wait a minute.
cat >"$root/etc/systemd/system/postbackd.service.d/trial-watchdog.conf" <<'UNIT'
[Service]
WatchdogSec=3s
UNIT
inside systemctl daemon-reload
inside systemctl restart postbackd
sleep 7
check "the watchdog leaves a healthy daemon alone" is NRestarts 0
pid=$(property MainPID)
inside kill -STOP "$pid"
for _ in $(seq 100); do
  [ "$(property NRestarts)" = 0 ] || break
  sleep 0.2
done
check "the watchdog ends a daemon that is stopped, and it is started again" is NRestarts 1
check "  the journal says that it was the watchdog" sh -c "journalctl -u postbackd | grep -q 'Watchdog timeout'"
check "  it is well again" curl -fsS --retry 5 --retry-connrefused http://127.0.0.1:8460/readyz
accepted=$(inside curl -sS http://127.0.0.1:8460/status | grep -o '"accepted":[0-9]*' | head -n 1)
if [ "$accepted" = "\"accepted\":$((answers + 1))" ]; then
  ok "what was acknowledged is there: $accepted"
else
  bad "what was acknowledged is there: $accepted of $((answers + 1))"
fi
inside systemctl stop postbackd.socket postbackd.service
check "a stop is clean" is Result success
exit "$failed"
