#!/bin/bash
# bertd beside Debian's task-spooler, supervisor and Slurm in one run: latency of a submit, memory, and what becomes of a running job
# when the manager is killed with -9 and comes back; 10 jobs are submitted just before. Prints a Markdown table. Needs root (Slurm's
# and munge's daemons) and apt.
#   BUILD_DIR=FOLDER tests/bench/bench-managers.sh [SUBMITS]
set -euo pipefail
submits=${1:-50}
: "${BUILD_DIR:?}"
. "$(dirname "$0")/../lib.sh"
bertd=$BUILD_DIR/daemon/bertd bertctl=$BUILD_DIR/ctl/bertctl
((EUID == 0)) || { echo "bench-managers: needs root" >&2; exit 1; }
for package in task-spooler supervisor slurm-wlm munge python3; do
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
if [[ -n ${missing:-} ]]; then
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >&2
fi
home=$(mktemp -d /tmp/bertd-managers.XXXXXX)
chmod 755 "$home"
export BERTD_STATE_DIR=$home/state BERTD_SOCKET=$home/bertd.sock TS_SOCKET=$home/tsp.sock TS_SAVELIST=$home/tsp.list TMPDIR=$home
export SLURM_CONF=$home/slurm.conf
daemons=()
finish() {
  for p in "${daemons[@]}" $(pgrep -f -- "$home/" || true); do kill -KILL "$p" 2>/dev/null || true; done
  for p in $(grep -lsz "$home" /proc/[0-9]*/environ | cut -d/ -f3); do [[ $p == $$ ]] || kill -KILL "$p" 2>/dev/null || true; done
  rm -rf "$home"
}
trap finish EXIT

background() { setsid "$@" </dev/null >>"$home/log" 2>&1 & started=$!; disown; daemons+=("$started"); }
seen() { wait_for 30 quietly "$@" || { echo "bench-managers: gave up on: $*" >&2; tail -5 "$home/log" >&2; return 1; }; }
rss() { awk '/^VmRSS/ {sum += $2} END {printf "%.1f MB", sum * 1024 / 1e6}' $(printf '/proc/%s/status ' "$@"); }
# Median milliseconds of a command, run so often.
median() {
  local n=$1 i t0 t1
  shift
  for ((i = 0; i < n; i++)); do
    t0=${EPOCHREALTIME/./}
    "$@" >/dev/null 2>&1
    t1=${EPOCHREALTIME/./}
    echo $((t1 - t0))
  done | sort -n | awk '{v[NR] = $1} END {printf "%.1f ms", v[int((NR + 1) / 2)] / 1000}'
}
# A job writes its pid and lives on; a second start writes a second line.
job() { printf 'echo $$ >>%s/%s.pid; exec sleep 600' "$home" "$1"; }
begun() { [[ -s $home/$1.pid ]]; }
pid_of() { tail -n 1 "$home/$1.pid"; }
lives() { kill -0 "$(head -n 1 "$home/$1.pid")" 2>/dev/null && echo "lives on" || echo "dies"; }
starts() { wc -l <"$home/$1.pid"; }
row() { echo "| $1 | $2 | $3 | $4 | $5 | $6 |"; }
ten_times() { for _ in {1..10}; do "$@" >/dev/null; done; }
SETTLE=7 # Slurm writes its state down within 5 s: the running job is older than that

echo "| manager | submit, median of $submits | memory, one job running | kill -9 of the manager: the running job | the manager comes back | of 10 jobs acknowledged just before |"
echo "|---|---|---|---|---|---|"

# ---- bertd ----
start_bertd() { background "$bertd" --slots 4 --launcher fork; bertd_pid=$started; seen "$bertctl" list; }
start_bertd
"$bertctl" submit -- sh -c "$(job bertd)" >"$home/id"
seen begun bertd
latency=$(median "$submits" "$bertctl" submit --priority -1 -- true)
memory="$(rss "$bertd_pid") + $(rss "$(pgrep -f -- "bertd-shim.*$home/" | head -n 1)") a job"
sleep "$SETTLE"
ten_times "$bertctl" submit --priority -1 -- true
kill -KILL "$bertd_pid"; sleep 1
fate=$(lives bertd)
start_bertd
sleep 2
kill -0 "$(pid_of bertd)" 2>/dev/null && [[ $(starts bertd) == 1 ]] && [[ $("$bertctl" status --json "$(cat "$home/id")" | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])') == running ]] &&
  back="adopts it: running, same process" || back="does not know it"
kept=$("$bertctl" list --json | python3 -c 'import json, sys; print(sum(j["id"] > '"$((submits + 1))"' for j in json.load(sys.stdin)))')
row bertd "$latency (one fsync)" "$memory" "$fate" "$back" "$kept kept"

# ---- task-spooler ----
tsp true >/dev/null; sleep 0.3
tsp -S 1; tsp sh -c "$(job tsp)" >/dev/null
seen begun tsp
latency=$(median "$submits" tsp true)
sleep "$SETTLE"
ten_times tsp true
server=$(pgrep -f '^tsp' | head -n 1)
memory=$(rss "$server")
for p in $(pgrep -x tsp); do [[ $(readlink "/proc/$p/exe") == */tsp ]] && grep -qsz "TS_SOCKET=$home" "/proc/$p/environ" && kill -KILL "$p"; done
sleep 1
fate=$(lives tsp)
tsp true >/dev/null; sleep 0.5
tsp -l | grep -q running && back="knows it" || back="an empty queue, $submits older waiting jobs gone too"
row task-spooler "$latency (in memory)" "$memory" "$fate" "$back" "$(($(tsp -l | grep -c true) - 1)) kept"

# ---- supervisor ----
mkdir "$home/conf.d"
cat >"$home/supervisord.conf" <<END
[unix_http_server]
file=$home/supervisor.sock
[supervisord]
logfile=$home/supervisord.log
pidfile=$home/supervisord.pid
nodaemon=true
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://$home/supervisor.sock
[include]
files=$home/conf.d/*.conf
END
program() { printf '[program:%s]\ncommand=sh -c "%s"\nautorestart=false\nstartsecs=0\n' "$1" "$2" >"$home/conf.d/$1.conf"; }
program keep "$(job supervisor)"
background supervisord -c "$home/supervisord.conf"
supervisor_pid=$started
seen begun supervisor
submit_supervisor() { count=$((${count:-0} + 1)); program "job$count" true; supervisorctl -c "$home/supervisord.conf" update; }
latency=$(median $((submits / 5)) submit_supervisor)
memory=$(rss "$supervisor_pid")
kill -KILL "$supervisor_pid"; sleep 1
fate=$(lives supervisor)
rm -f "$home"/conf.d/job*.conf
background supervisord -c "$home/supervisord.conf"
sleep 3
[[ $(starts supervisor) == 1 ]] && back="does not start it again" || back="starts a second one beside it ($(starts supervisor) live)"
row "supervisor" "$latency (a file and \`update\`)" "$memory" "$fate" "$back" "files: not a queue"

# ---- Slurm ----
host=$(hostname -s)
read -r ctld_port slurmd_port < <(free_ports 2)
mkdir -p "$home/slurm/state" "$home/slurm/spool" /run/munge
chown munge: /run/munge
cat >"$SLURM_CONF" <<END
ClusterName=bench
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
StateSaveLocation=$home/slurm/state
SlurmdSpoolDir=$home/slurm/spool
SlurmctldPidFile=$home/slurm/ctld.pid
SlurmdPidFile=$home/slurm/d.pid
SlurmctldPort=$ctld_port
SlurmdPort=$slurmd_port
ReturnToService=2
SlurmctldParameters=enable_configless
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:64
END
[[ -s /etc/munge/munge.key ]] || { dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 2>/dev/null; chown munge: /etc/munge/munge.key; chmod 400 /etc/munge/munge.key; }
if ! munge -n >/dev/null 2>&1; then background setpriv --reuid munge --regid munge --clear-groups munged --foreground --socket=/run/munge/munge.socket.2 --force; seen munge -n; fi
start_slurm() { background slurmctld -D -f "$SLURM_CONF"; ctld=$started; background slurmd -D -f "$SLURM_CONF" -N "$host"; slurmd=$started; seen scontrol ping; }
start_slurm
node_idle() { sinfo -h -o %t | grep -qE 'idle|mix|alloc'; }
seen node_idle
printf '#!/bin/sh\n%s\n' "$(job slurm)" >"$home/slurm.sh"
id=$(sbatch --parsable -o /dev/null "$home/slurm.sh")
seen begun slurm
latency=$(median "$submits" sbatch --hold -o /dev/null --wrap true)
memory="$(rss "$ctld" "$slurmd") (slurmctld and slurmd)"
sleep "$SETTLE"
ten_times sbatch --hold -o /dev/null --wrap true
kill -KILL "$ctld" "$slurmd"; sleep 1
fate=$(lives slurm)
start_slurm
seen node_idle
sleep 3
state=$(squeue -h -j "$id" -o %T 2>/dev/null || true)
[[ $(starts slurm) == 1 ]] && state="${state:-gone}, same process" || state="${state:-gone}, started a second time"
row "Slurm" "$latency" "$memory" "$fate" "knows it: $state" "$(($(squeue -h | wc -l) > submits + 1 ? $(squeue -h | wc -l) - submits - 1 : 0)) kept"
