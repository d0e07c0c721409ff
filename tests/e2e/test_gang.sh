#!/bin/bash
# A job over several hosts: its start, what it prints, how it ends; what happens if a rank, Open MPI's daemon, a leash, a host, the gang or
# the shim is lost, stopped or silent; hosts that refuse; stops; spares.
. "$(dirname "$0")/gang_bed.sh"
. "$(dirname "$0")/lib.sh"
command -v mpirun >/dev/null || skip_all "no mpirun"
cleanup() { kill_bertd; bed_end; }
diagnose() { "$BERTCTL" list; [[ -z ${job:-} ]] || { "$BERTCTL" status "$job"; "$BERTCTL" events "$job"; "$BERTCTL" logs -n 25 "$job"; }; tail -n 5 "$work/bertd.log"; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# A job of ranks that sleep, until they are there; sets $job
start_sleepers() { job=$(submit_on h1,h2,h3 2 sleep 600) && wait_for 10 is_running "$job" h2 sleep; }
ends_now() { "$BERTCTL" cancel --now "$job" && wait_state "$job" cancelled && wait_for 5 empty_on h2 h3; }

start_bertd

job=$("$BERTCTL" submit --hosts h1,h2 -- sh -c 'echo "rank $RANK/$WORLD_SIZE node $NODE_RANK/$NNODES local $LOCAL_RANK on $(hostname) at $MASTER_ADDR:$MASTER_PORT"')
ok "a command runs on two hosts" wait_job "$job"
for i in 0 1; do
  ok "rank $i knows its place" says "$(log_of "$job")" "rank $i/2 node $i/2 local 0 on h$((i + 1)) at 10.77.0.1:29[0-9]+"
done
ok "nothing is left there" wait_for 5 empty_on h2 h3

more_resources=', network: 10.77.0.0/24' job=$(submit_on h1,h2 2 sh -c 'echo "by $NCCL_SOCKET_IFNAME and $GLOO_SOCKET_IFNAME"')
more_resources=
ok "a job in a network" wait_job "$job"
is "tells its ranks the interface" "$(log_of "$job" | grep -c 'by =eth0 and eth0')" 2

job=$(ulimit -Sf 123456 && "$BERTCTL" submit --hosts h1,h2 -- bash -c '[ $RANK != 0 ] || echo "limit $(ulimit -Sf)"')
ok "a job with a limit" wait_job "$job"
ok "has it on the head, too" says "$(log_of "$job")" "limit 123456"

job=$("$BERTCTL" submit --retries 0 --hosts h1,h2.example.com -- hostname)
ok "a host may have a long name" wait_job "$job"
ok "it ran there" says "$(log_of "$job")" h2

job=$("$BERTCTL" submit --retries 0 --hosts h1,h2 -- sh -c '[ $RANK = 0 ] && exec sleep 60; exit 3')
ok "a rank that fails there ends the job" wait_state "$job" failed
ok "its host and code are named" says "$(field "$job" reason)" 'rank 1 on h2: exit code 3'

ok "ranks sleep on both" start_sleepers
kill -KILL $(processes_on h2 sleep)
ok "a rank that is killed there ends the attempt" wait_for 10 attempt_past "$job" 2
ok "rank, host and signal are named" says "$(record_of "$job" 1 reason)" 'rank 1 on h2: killed by signal 9'
is "by a class that costs no budget" "$(record_of "$job" 1 class)" killed
ok "it ends" ends_now

ok "ranks sleep on both" start_sleepers
kill -KILL $(processes_on h2 orted)
ok "Open MPI's daemon is killed: the attempt ends" wait_for 10 attempt_past "$job" 2
is "as host-lost" "$(record_of "$job" 1 class) $(record_of "$job" 1 host)" "host-lost h2"
ok "and with its cause" says "$(record_of "$job" 1 reason)" "^h2: Open MPI's daemon was killed by signal 9"
ok "a spare takes its place" wait_for 10 is_running "$job" h3 sleep
ok "h2 is empty" wait_for 5 empty_on h2
ok "it ends" ends_now

ok "ranks sleep on both" start_sleepers
kill -KILL "$(leash_of h2)"
ok "the leash is killed: the attempt ends" wait_for 10 attempt_past "$job" 2
is "as host-lost" "$(record_of "$job" 1 class) $(record_of "$job" 1 host)" "host-lost h2"
ok "a spare takes its place" wait_for 10 is_running "$job" h3 sleep
kill -KILL $(processes_on h2) 2>/dev/null
ok "it ends" ends_now

ok "ranks sleep on both" start_sleepers
touch "$bed/fake/h3.forbidden"
kill -KILL "$(leash_of h2)"
ok "while a lost host cools down, a spare that refuses" wait_for 20 attempt_past "$job" 3
is "does not end the job" "$(record_of "$job" 2 class) $(record_of "$job" 2 host)" "wait h3"
rm "$bed/fake/h3.forbidden"
ok "it goes on" wait_for 20 is_running "$job" h3 sleep
ok "it ends" ends_now

ok "ranks sleep on both" start_sleepers
leash=$(leash_of h2)
kill -STOP "$leash"
ok "the leash is silent: the attempt ends" wait_for 20 attempt_past "$job" 2
ok "and says so" says "$(record_of "$job" 1 reason)" '^h2: silent for [89]\.[0-9] s \(limit 8 s\)'
kill -CONT "$leash"
ok "it ends by itself" wait_for 5 empty_on h2
ok "a spare takes its place" wait_for 10 is_running "$job" h3 sleep
ok "it ends" ends_now

ok "ranks sleep on both" start_sleepers
kill -KILL "$(pgrep -f "bertd-gang --dir .*/jobs/$job/")"
ok "bertd-gang is killed: h2 is empty" wait_for 3 empty_on h2
ok "it starts again" wait_for 10 is_running "$job" h2 sleep
kill -KILL "$(shim_of "$job")"
ok "the shim is killed: h2 is empty" wait_for 3 empty_on h2
ok "it starts again" wait_for 10 is_running "$job" h2 sleep
gang=$(pgrep -f "bertd-gang --dir .*/jobs/$job/")
kill -STOP "$gang"
ok "bertd-gang is stopped: h2 ends by itself" wait_for 15 empty_on h2
kill -CONT "$gang"
ok "it starts again" wait_for 10 is_running "$job" h3 sleep
ok "it ends" ends_now

ok "ranks sleep on both" start_sleepers
cut_cable h2
ok "a cable is cut: the attempt ends" wait_for 12 attempt_past "$job" 2
ok "and says so" says "$(record_of "$job" 1 reason)" '^h2: silent for [89]\.[0-9] s'
ok "h2 ends by itself" wait_for 5 empty_on h2
ok "a spare takes its place" wait_for 10 is_running "$job" h3 sleep
join_cable h2
ok "it ends" ends_now

touch "$bed/fake/h2.busy"
job=$(submit_on h1,h2 2 true)
ok "a busy host is waited for" wait_for 20 attempt_past "$job" 2
is "by class wait" "$(record_of "$job" 1 class) $(record_of "$job" 1 host)" "wait h2"
ok "its holder is named" says "$(record_of "$job" 1 reason)" 'h2: all 1 slots are busy: job 12 of alice'
rm "$bed/fake/h2.busy"
ok "it runs when it is free" wait_job "$job"

touch "$bed/fake/h2.busy"
job=$(submit_on h1,h2 2 true)
sleep 1.5
rm "$bed/fake/h2.busy"
ok "one that is busy for a moment is asked again" wait_job "$job"
is "in the same attempt" "$(field "$job" attempts)" 1

touch "$bed/fake/h2.bare"
said=$("$BERTCTL" submit --hosts h1,h2 -- true 2>&1)
ok "a host without the command's folder is refused at submit" says "$said" "^bertctl: h2: $PWD: missing there; run: rsync .* h2:/\$"
rm "$bed/fake/h2.bare"

touch "$bed/fake/h2.forbidden"
job=$("$BERTCTL" submit --hosts h1,h2 -- true)
ok "a host that refuses for good fails the job" wait_state "$job" failed
ok "its reason is the host's" says "$(field "$job" reason)" 'h2: not in group bertd'
is "at the first attempt" "$(field "$job" attempts)" 1
rm "$bed/fake/h2.forbidden"

touch "$bed/fake/h2.away"
job=$("$BERTCTL" submit --hosts h1,h2,h3 --use 2 -- hostname)
ok "a spare stands in for a host that is away" wait_job "$job"
ok "it ran there" says "$(log_of "$job")" h3
is "at the first attempt" "$(field "$job" attempts)" 1
job=$(submit_on h1,h2 2 true)
ok "without a spare it is waited for" wait_for 10 attempt_past "$job" 2
ok "and named" says "$(record_of "$job" 1 reason)" '^h2: no sshd answers there'
rm "$bed/fake/h2.away"
ok "it runs when it is back" wait_job "$job"
touch "$bed/fake/h2.away"
more_restart=', shrink: true' job=$(submit_on h1,h2 2 sh -c 'echo $RANK of $WORLD_SIZE')
more_restart=
ok "with shrink it runs on fewer hosts" wait_job "$job"
is "on this one alone" "$(log_of "$job" | grep of)" "0 of 1"
ok "which are shown" equal "$("$BERTCTL" status --json "$job" | jq -c .hosts_in_use)" '["h1"]'
rm "$bed/fake/h2.away"

job=$("$BERTCTL" submit --hosts h1,h2 -- sh -c "trap 'echo stopped \$RANK; exit 0' TERM; echo up; sleep 600 & wait; wait; echo next")
ok "ranks are up" wait_for 10 is_running "$job" h2 sleep
ok "a stop" "$BERTCTL" pause "$job"
ok "ends it" wait_state "$job" paused
ok "rank 0 got SIGTERM" says "$(log_of "$job")" 'stopped 0'
ok "rank 1 got SIGTERM" says "$(log_of "$job")" 'stopped 1'
ok "nothing is left" wait_for 5 empty_on h2 h3

finish
