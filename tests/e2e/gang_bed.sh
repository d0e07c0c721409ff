# A bed of hosts h1 (this one), h2, h3, h4 without systemd or sshd, for the tests of gangs: a network and a host name each, one PID and mount
# namespace for all, which ends with the test. `ssh` of the bed runs a command there over TCP (gang_host.py); `bertctl` there is a host that always lends.
# Sourced before lib.sh. The file $bed/fake/HOST.WORD changes a host: away, forbidden, busy, draining, bare (without the files).
if [[ $(id -u) != 0 ]] || ! command -v ip >/dev/null || ! unshare --mount --uts --net --pid --fork ip link set lo up 2>/dev/null; then
  echo "1..0 # SKIP needs root, iproute2, and namespaces whose network it may set up"
  exit 0
fi
[[ ${GANG_BED:-} == inside ]] || exec env GANG_BED=inside unshare --mount --uts --net --pid --fork --kill-child --mount-proc bash "$0" "$@"

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
bed=$(mktemp -d /tmp/bertd-gang.XXXXXX) # short: Open MPI's session folders hold sockets
chmod 755 "$bed"
mkdir "$bed/bin" "$bed/fake" "$bed/tmp"
hostname h1
printf '127.0.0.1 localhost\n10.77.0.1 h1\n10.77.0.2 h2\n10.77.0.3 h3\n10.77.0.4 h4\n10.77.0.2 h2.example.com\n' >"$bed/hosts"
[[ -e /etc/hosts ]] || : >/etc/hosts # a minimal container has none
mount --bind "$bed/hosts" /etc/hosts || exit 99
ip link set lo up
ip link add br0 type bridge && ip addr add 10.77.0.1/24 dev br0 && ip link set br0 up
for i in 2 3 4; do
  unshare --net --uts sh -c "hostname h$i; exec sleep infinity" &
  echo $! >"$bed/h$i.ns"
  until [[ $(nsenter -t $! -u hostname 2>/dev/null) == "h$i" ]]; do sleep 0.02; done
  ip link add "v$i" type veth peer name eth0 netns $! && ip link set "v$i" master br0 up
  nsenter -t $! -n sh -c "ip link set lo up; ip addr add 10.77.0.$i/24 dev eth0; ip link set eth0 up"
done

cat >"$bed/bin/ssh" <<EOF
#!/bin/bash
while [[ \$1 == -* ]]; do [[ \$1 == -- ]] && { shift; break; }; shift; done
[[ ! -e $bed/fake/\$1.away ]] || { echo "ssh: connect to host \$1 port 22: Connection refused" >&2; exit 255; }
exec python3 $here/gang_host.py call "\$1" "\$2"
EOF
version=$("$BERTD" --version | cut -d" " -f2)
mpi=$(mpirun --version 2>/dev/null | sed -n "s/.*(Open MPI) //p")
cat >"$bed/bin/bertctl" <<EOF
#!/bin/bash
h=\$(hostname)
echo "Welcome to \$h"
inputs=[] # as they are here: all hosts of the bed have the same files
read -r line
[[ \$line != *'"paths": ["'* && \$line != *'"paths":["'* ]] || inputs=\$("$BERTCTL" lease --probe --inputs <<<"\$line" 2>/dev/null | head -n 1 | jq -c .inputs)
[[ ! -e $bed/fake/\$h.bare ]] || inputs=\$(jq -c 'map(.state = "missing")' <<<"\$inputs")
echo '{"type":"host","version":2,"host":"'\$h'","bertd":"'$version'","trainer":"'$version'","mpi":"'$mpi'","clock_usec":0,"launcher":"systemd","cpus":2,"memory":1,"slots":1,"gpus":[],"draining":"","resolves":{},"network":{"interface":"eth0","address":"10.77.0.'\${h#h}'"},"inputs":'"\$inputs"'}'
[[ " \$* " != *" --probe "* ]] || exit 0
while read -r line && [[ \$line != *'"take"'* ]]; do :; done
[[ \$line == *'"take"'* ]] || exit 0
[[ ! -e $bed/fake/\$h.busy ]] || { echo '{"type":"refused","class":"busy","reason":"'\$h': all 1 slots are busy: job 12 of alice"}'; exit 0; }
[[ ! -e $bed/fake/\$h.forbidden ]] || { echo '{"type":"refused","class":"forbidden","reason":"'\$h': not in group bertd"}'; exit 0; }
[[ ! -e $bed/fake/\$h.draining ]] || { echo '{"type":"refused","class":"draining","reason":"'\$h': draining: a new disk"}'; exit 0; }
echo \$\$ >$bed/fake/\$h.leash
limit=\$(sed 's/.*--host-timeout \([0-9]*\).*/\1/' <<<"\$*")
exec env NOTIFY_SOCKET=$bed/fake/\$h.notify ${LEASH:-$(dirname "$BERTD")/bertd-leash} --of h1:1 --host-timeout "\$limit"
EOF
chmod +x "$bed/bin/ssh" "$bed/bin/bertctl"
for i in 2 3 4; do
  (cd / && exec nsenter -t "$(cat "$bed/h$i.ns")" -n -u -- env -i HOME="$HOME" TMPDIR="$bed/tmp" PATH="$bed/bin:/usr/local/bin:/usr/bin:/bin" \
    ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0" LSAN_OPTIONS="${LSAN_OPTIONS:-}" UBSAN_OPTIONS="${UBSAN_OPTIONS:-}" \
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 LEASH="${LEASH:-}" python3 "$here/gang_host.py" serve "10.77.0.$i" "$bed/fake/h$i") &
  echo $! >"$bed/h$i.sshd"
done
export PATH="$bed/bin:$PATH" TMPDIR=$bed/tmp

cut_cable() { ip link set "v${1#h}" down; }
join_cable() { ip link set "v${1#h}" up; }
on() { local h=$1; shift; nsenter -t "$(cat "$bed/$h.ns")" -n -u -- "$@"; }
# The processes of a host: those of its network, without the bed's own.
processes_on() { # HOST [COMM]
  local p net
  net=$(readlink "/proc/$(cat "$bed/$1.ns")/ns/net")
  for p in /proc/[0-9]*; do
    [[ $(readlink "$p/ns/net" 2>/dev/null) == "$net" && " $(cat "$bed/$1.ns" "$bed/$1.sshd" | xargs) " != *" ${p#/proc/} "* ]] || continue
    [[ $(awk '/^State:/ {print $2}' "$p/status" 2>/dev/null) == [!Z]* ]] || continue
    [[ -n ${2:-} && $(cat "$p/comm" 2>/dev/null) != "$2" ]] || echo "${p#/proc/}"
  done
}
empty_on() { local h; for h in "$@"; do [[ -z $(processes_on "$h") ]] || { echo "$h: $(processes_on "$h" | xargs ps -o pid,args -p)"; return 1; }; done; }
bed_end() { umount /etc/hosts; rm -rf "$bed"; }

says() { [[ $1 =~ $2 ]] || { echo "'$1' does not say '$2'"; return 1; }; }
record_of() { jq -r ".$3" "$BERTD_STATE_DIR/jobs/$1/attempt-$2/exit.json"; }
log_of() { "$BERTCTL" logs "$1"; }
leash_of() { cat "$bed/fake/$1.leash"; }
is_running() { [[ $(field "$1" state) == running && -n $(processes_on "$2" orted) && -n $(processes_on "$2" "$3") ]]; }
wait_state() { wait_for 20 state_is "$1" "$2"; }
submit_on() { # HOSTS USE COMMAND...: a job of one rank a host; $more has lines for its spec
  printf 'kind: command\nresources: {hosts: [%s], use: %s, host_timeout_sec: 8%s}\nrestart: {backoff_sec: [1, 1]%s}\ncommand: %s\n' \
    "$1" "$2" "${more_resources:-}" "${more_restart:-}" "$(jq -nc '$ARGS.positional' --args -- "${@:3}")" >"$work/on.yaml"
  "$BERTCTL" submit "$work/on.yaml"
}
