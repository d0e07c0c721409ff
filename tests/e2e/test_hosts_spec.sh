#!/bin/bash
# Many hosts, as far as one host can see: what a spec and `submit` take, the probe of the other hosts at submit and by
# `doctor --hosts` (an ssh of this test stands for them), and the plan that bertd writes. No other host, no gang.
. "$(dirname "$0")/lib.sh"
head=$(ip -4 -o addr show scope global 2>/dev/null | awk '{sub("/.*", "", $4); print $4; exit}')
[[ -n $head ]] || skip_all "no address but the loopback's"
mkdir "$work/bin" "$work/fake" "$work/home"
ln -s "$(readlink -f "$BERTCTL")" "$work/bin/bertctl"
# Its words are kept in $work/ssh; fake/HOST says what it does there, else the command runs here, without a bertd.
cat >"$work/bin/ssh" <<'SSH'
#!/bin/bash
printf '%s\n' "$* ${SSH_AUTH_SOCK:-}${KRB5CCNAME:-}${DISPLAY:-}" >>"$WORK/ssh"
while [[ $1 != -- ]]; do shift; done
host=$2 command=$3
export BERTD_SOCKET=$WORK/none
[[ ! -e $WORK/fake/$host ]] || . "$WORK/fake/$host"
bash -c "$command" | sed -u "s/\"boot\":\"[^\"]*\"/\"boot\":\"${same:-$host}\"/"
exit "${PIPESTATUS[0]}"
SSH
chmod +x "$work/bin/ssh"
export WORK=$work PATH=$work/bin:$PATH HOME=$work/home
fake() { # HOST LINE...: shell
  local host=$1
  shift
  printf '%s\n' "$@" >"$work/fake/$host"
}
says() { # HOST EXIT TEXT: ssh's own words
  fake "$1" "echo '$3' >&2; exit $2"
}
line() { # HOST JSON [JSON]: the host's line, on this host's versions; then a refusal
  fake "$1" "bash -c \"\$command\" </dev/stdin | head -n 1 | jq -c '. + $2'" "${3:+echo '$3'}" 'exit 0'
}
start_bertd
cd "$work" || exit 99

# ---- what a list may be ----
own="hosts: this host (.*) is not one of them; run: ssh gpu01 bertctl submit"
ok "a job is submitted on one of its hosts" refuses 2 "$own" bertctl submit --hosts 'gpu[01-02]' -- true
ok "a host is not given twice" refuses 2 "^bertctl: --hosts: 'gpu01': given twice" bertctl submit --hosts "$head,gpu[01-02],gpu01" -- true
ok "nor is this one by two names" refuses 2 "are both this host; give one" bertctl submit --hosts "$head,$(hostname)" -- true
ok "an option of ssh is not a host" refuses 2 "not a host name" bertctl submit --hosts "$head,-oProxyCommand=x" -- true
ok "nor is what a terminal obeys" refuses 2 "^bertctl: --hosts: 'a?b': not a host name" bertctl submit --hosts "$head,a"$'\033'"b" -- true
ok "it uses no more hosts than it has" refuses 2 "^bertctl: --use: 3, but resources.hosts has 2" bertctl submit --hosts "$head,h2" --use 3 -- true
ok "bertd starts the ranks" refuses 2 "command: mpirun: bertd starts the ranks; give the program alone" bertctl submit --hosts "$head,h2" -- mpirun -n 2 true
while read -r what; do
  ok "behind $what, too" refuses 2 "command: mpirun: bertd starts the ranks" sh -c "bertctl submit --hosts $head,h2 -- $what"
done <<'END'
env A=1 mpirun true
nice -n 5 mpirun -n 2 true
timeout -k 5 10 /usr/bin/mpirun -n 2 true
END
ok "a host that each is for itself" refuses 2 "--hosts: localhost: each host is that for itself; give its own name" bertctl submit --hosts "$head,localhost" -- true
ok "by its longer name, too" refuses 2 "command: mpirun.openmpi: bertd starts the ranks" bertctl submit --hosts "$head,h2" -- /usr/bin/mpirun.openmpi -n 2 true
printf '# ours\n%s slots=2\nh2 slots=1\n' "$head" >hosts
cat >file.yaml <<SPEC
kind: command
command: [sleep, 1000]
resources: {ranks: 2, hosts: {file: hosts}, unmanaged: true}
SPEC
ok "a file's slots are enough for the ranks" refuses 2 "file.yaml:3: resources.hosts: h2 has slots=1, but resources.ranks is 2, for each host" bertctl submit file.yaml
sed -i 's/slots=1/slots=2/' hosts
ok "the head is one of a file's hosts" refuses 2 "is not one of them" bertctl submit --hosts h2,h3 file.yaml

# ---- one host is as none ----
job=$(bertctl submit --hosts "$head" -- sleep 1000)
wait_for 20 test -s "state/jobs/$job/attempt-1/attempt.json"
is "a job of one host starts its program" "$(jq -r '.argv[0]' "state/jobs/$job/attempt-1/attempt.json")" sleep
ok "and has no gang" not test -e "state/jobs/$job/attempt-1/gang.json"
ok "and no host was called" not test -e "$work/ssh"
is "status shows its host" "$(bertctl status --json "$job" | jq -c '[.hosts, .use, .world, .hosts_in_use]')" "[[\"$head\"],1,1,null]"
bertctl cancel --now "$job"

# ---- the plan ----
job=$(SSH_AUTH_SOCK=agent KRB5CCNAME=ticket DISPLAY=:0 bertctl submit --hosts "h[3-4],$head,h2" --use 2 file.yaml)
ok "a job of many hosts is submitted" test -n "$job"
ok "each other host was asked" equal "$(sed -n 's/.* -- \(h[0-9]\) .*/\1/p' ssh | sort | xargs)" "h2 h3 h4"
ok "without what a login lends" not grep -e agent -e ticket -e :0 ssh
ok "without questions or shared connections" grep -q -e '-oBatchMode=yes .*-oControlMaster=no -oControlPath=none .* -- h2 bertctl lease --probe --inputs --pairs --unmanaged' ssh
wait_for 20 test -s "state/jobs/$job/attempt-1/attempt.json"
plan=state/jobs/$job/attempt-1/gang.json
is "its main child is bertd-gang" "$(jq -r '.argv[0] | sub(".*/"; "")' "state/jobs/$job/attempt-1/attempt.json")" bertd-gang
is "the plan has the hosts, sorted, and the spares" "$(jq -c '[.head, .hosts, .spares, .argv, .ranks]' "$plan")" \
  "[\"$head\",[\"$head\",\"h3\"],[\"h4\",\"h2\"],[\"sleep\",\"1000\"],2]"
is "status has them" "$(bertctl status --json "$job" | jq -c '[.hosts, .use, .ranks, .world]')" "[[\"$head\",\"h3\",\"h4\",\"h2\"],2,2,4]"
ok "and for people" grep -q "hosts  *2 of 4, 4 ranks in all: $head h3 h4 h2" <(bertctl status "$job")
ok "list shows ranks of each host" grep -q "2x2" <(bertctl list)
wait_for 20 bash -c '[[ $(bertctl status --json "$1" | jq -r .state) == failed ]] || bertctl cancel --now "$1"' - "$job"
bertctl wait "$job" 2>/dev/null
ok "resume does not use more hosts than it has" refuses 2 "use: is 5, but job $job has 4 hosts" bertctl resume --use 5 "$job"
bertctl resume --use 3 "$job"
is "resume --use changes how many" "$(bertctl status --json "$job" | jq -c '[.use, .world]')" '[3,6]'
bertctl cancel --now "$job" 2>/dev/null

# ---- verdicts at submit ----
printf 'kind: command\ncommand: [sleep, "1000"]\nresources: {hosts: [%s, h2, h3], use: 2, unmanaged: true}\n' "$head" >job.yaml
all_refused() { # PATTERN: of one of its lines
  bertctl submit job.yaml >out 2>said
  [[ $? -eq 1 && ! -s out ]] && grep -q -e "$1" said || { cat out said; return 1; }
}
refused() { # WHAT PATTERN
  ok "refused: $1" all_refused "^bertctl: $2"
}
waits() { # WHAT PATTERN: submitted, with a warning
  local id
  id=$(bertctl submit job.yaml 2>said)
  ok "waits: $1" grep -q "^bertctl: $2; the job waits for it\$" said
  ok "and is submitted" test -n "$id"
  bertctl cancel --now "$id" 2>/dev/null
}
says h3 255 'alice@h3: Permission denied (publickey,password).'
refused "no key" "h3: no key without a passphrase is accepted there; see: bertctl doctor --hosts h3"
says h3 255 'ssh: Could not resolve hostname h3: Name or service not known'
refused "an unknown host" "h3: unknown host; check its name: getent hosts h3"
says h3 255 'Host key verification failed.'
refused "an unknown host key" "h3: its host key is not known here; run once: ssh h3 true"
says h3 127 'bash: line 1: bertctl: command not found'
refused "no bertctl" "h3: bertctl is not installed there"
line h3 "{resolves: {\"$head\": \"127.0.1.1\"}}"
refused "the head is a loopback there" "h3: on h3, $head is 127.0.1.1; give it its own address in /etc/hosts there"
line h3 '{launcher: "fork"}'
refused "launcher fork" "h3: its bertd lends nothing: launcher fork"
line h3 '{}' '{"type":"refused","class":"forbidden","reason":"h3: not in group bertd; ask root for: usermod -aG bertd alice"}'
refused "not in group bertd" "h3: not in group bertd; ask root"
line h3 '{bertd: "9.9", slots: 0}'
says h3 255 'ssh: connect to host h3 port 22: Connection timed out'
waits "a host that does not answer" "h3: does not answer"
says h3 255 'ssh: connect to host h3 port 22: Connection refused'
waits "no sshd" "h3: no sshd answers there; start it: systemctl start ssh"
line h3 '{mpi: "5.0.7"}'
waits "another Open MPI" "h3: Open MPI 5.0.7 there, .* here; install one version"
line h3 '{draining: "new cooling"}'
waits "a drained host" "h3: drained: new cooling; when it is over: bertctl undrain"
line h3 '{}' '{"type":"refused","class":"away","reason":"h3: bertd does not answer"}'
waits "no bertd" "h3: bertd does not answer"
fake h3 'sleep 1000'
start=$SECONDS
waits "a host that hangs" "h3: does not answer"
ok "for a bounded time" test $((SECONDS - start)) -lt $((25 * patience))
ok "and no ssh is left" wait_for 10 not pgrep -f "$work/bin/ssh"
fake h3 'echo Welcome; echo "to {this} host"'
waits_for_nothing() { [[ -n $(bertctl submit job.yaml 2>said) && ! -s said ]]; }
ok "a shell that greets does no harm" waits_for_nothing
fake h3 'yes | head -c 50000000; exit 1'
waits "one that floods" "h3: ssh ended without an answer; see why: ssh h3 bertctl --version"
rm fake/h3
sed -i 's/unmanaged: true/unmanaged: true, network: 10.99.0.0\/16/' job.yaml
refused "no interface in the network" "h2: network: no interface of this host is "
sed -i "s/network: [0-9./]*/network: lo/" job.yaml
fake h3 'bash -c "$command" | sed -u "s/\"listen\":[0-9]*/\"listen\":1/"; exit 0'
fake h3 'same=h2'
refused "one host by two names" "h3: is the same host as h2 (.*); give one of them"
fake h3 'bash -c "$command" | sed -u "s/\"listen\":[0-9]*/\"listen\":1/"; exit 0'
refused "no TCP between two" "$head: no TCP to h3 at 127.0.0.1: Connection refused; open the firewall"
rm fake/h3

# ---- inputs ----
printf 'text,label\nhello,a\nyou,b\n' >texts.csv
cp texts.csv config.json
printf 'x\n' >vocab.txt
cat >tune.yaml <<SPEC
kind: finetune
model: {config: config.json, vocab: vocab.txt}
data: {train: [texts.csv]}
train: {epochs: 1}
resources: {hosts: [$head, h2], unmanaged: true}
SPEC
inputs() { fake h2 "bash -c \"\$command\" | jq --unbuffered -c 'if .inputs then .inputs[0] += $1 else . end'" 'exit 0'; }
inputs '{state: "missing", hash: ""}'
ok "data that another host lacks" refuses 1 "h2: $work/texts.csv: missing there; run: rsync -aR --no-implied-dirs $work/texts.csv h2:/" bertctl submit tune.yaml
inputs '{hash: "0"}'
ok "or has otherwise" refuses 1 "h2: $work/texts.csv: differs from this host's; run: rsync" bertctl submit tune.yaml
rm fake/h2
job=$(bertctl submit tune.yaml 2>said)
ok "the same data are no trouble" test -n "$job" -a ! -s said
bertctl cancel --now "$job" 2>/dev/null

# ---- doctor ----
ok "doctor: all is well" bertctl doctor --hosts "tune.yaml"
bertctl doctor --hosts "$job" >table
ok "doctor of a job: the versions and TCP of each host" grep -qE "^h2 +ok +- +[0-9.]+ +[0-9.]+ .* 1 of 1 +1 of 1" table
ok "doctor: a key to be made" grep -q "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519" table
mkdir home/.ssh
echo 'ssh-ed25519 AAAA alice@here' >home/.ssh/id_ed25519.pub
says h2 255 'ssh: connect to host h2 port 22: Connection timed out'
bertctl doctor --hosts h2,h3 >table
is "doctor: exit status 1 if a host is away" $? 1
ok "its verdict" grep -q '^h2: does not answer$' table
ok "the line for authorized_keys" grep -q '^  restrict,command="bertctl lease --only" ssh-ed25519 AAAA alice@here$' table
is "doctor --json" "$(bertctl doctor --json --hosts h2 | jq -c '[.ok, [.hosts[].state]]')" '[false,["ok","waits"]]'
ok "doctor: a spec without hosts" refuses 2 "has no resources.hosts" bertctl doctor --hosts <(echo 'kind: command
command: [true]')

# ---- bertctl -H ----
elsewhere() { # CODE PATTERN WORD...: its exit status, and a line of standard error
  local want=$1 pattern=$2 got=0
  shift 2
  bertctl "$@" >out 2>err || got=$?
  [[ $got == "$want" ]] && grep -q -e "$pattern" err
}
job=$(bertctl submit --name here -- sleep 1000)
says "$head" 255 'ssh: it was asked'
bertctl list -H "$head" >out 2>err
is "this host is asked without ssh" "$? $(cat err)" '0 '
ok "and its jobs are shown" grep -qw here out
says h2 255 'alice@h2: Permission denied (publickey).'
ok "what ssh says has its cure" elsewhere 1 '^bertctl: h2: no key without a passphrase is accepted there; see: bertctl doctor --hosts h2$' list -H h2
fake h2 'exit 0'
ok "a shell that ends at once" elsewhere 1 '^bertctl: h2: ssh ended without an answer; see why: ssh h2 ' status -H h2
fake h2 'echo "bertctl: no job 4242" >&2; exit 3'
ok "a job that no host has" elsewhere 3 '^bertctl: h2: no job 4242$' status -H h2 4242
ok "that one has" elsewhere 1 '^bertctl: h2: no job' status -H "h2,$head" "$job"
ok "is shown" grep -qw here out
bertctl cancel --now "$job"

# ---- a rank that lags, as rank 0 reports it ----
cat >pace.py <<'PY'
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for text in sys.argv[1:]:
    s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
time.sleep(1000)
PY
slow() { bertctl status --json "$job" | jq -c '.slowest | [.host, .rank, .ratio]'; }
is_slow() { [[ $(slow) == "$1" ]]; }
job=$(bertctl submit -- python3 "$work/pace.py" X_BERTD_STEP=1 X_BERTD_SLOWEST=h3,17,1.38)
ok "a rank that lags is reported" wait_for 10 is_slow '["h3",17,1.38]'
ok "status names its host, rank and pace, and since when" grep -qE '^  slow +h3 rank 17 is 1.4 × the median since [0-9]+:[0-9]+$' <(bertctl status "$job")
bertctl cancel --now "$job"
job=$(bertctl submit -- python3 "$work/pace.py" X_BERTD_STEP=1 X_BERTD_SLOWEST=h3,17,1.38 X_BERTD_SLOWEST=$'h\033[2J,1,9' X_BERTD_SLOWEST=)
wait_for 10 bash -c '[[ $(bertctl status --json "$1" | jq .step) == 1 ]]' - "$job"
ok "one that has caught up is not, nor what is no such report" is_slow '[null,null,null]'
bertctl cancel --now "$job"
finish
