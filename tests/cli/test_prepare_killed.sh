#!/bin/sh
# prepare dies of kill -9, before each fsync, unlink and rename and at other moments: the old corpus is whole, or gone while the new
# one takes its place; never a mixture. The next run gives what an undisturbed one gives and leaves nothing else: TAP.
. "$(dirname "$0")/text-lib.sh"
fault=$(preloaded fault)
prepare() { "$BERT_TRAINER" prepare --vocab vocab.txt --format prose --validation 0.1 --output "$@"; }
copy() { for part in '' -validation; do for end in bin idx json; do cp "$1$part.$end" "$2$part.$end" || return; done; done; }
same() { # same A B PART: the three files of one corpus
        for end in bin idx json; do cmp "$1$3.$end" "$2$3.$end" || return; done
}
old_new_or_gone() { # of c and c-validation, each by itself
        for part in '' -validation; do
                same c old "$part" >/dev/null 2>&1 || same c new "$part" >/dev/null 2>&1 || [ ! -e "c$part.idx" ] || { echo "a mixture: c$part"; return 1; }
        done
}
killed() { # killed CALL N: over the old corpus; a status of 3: there is no Nth call
        copy old c
        head -c 8 /dev/zero >counter
        LD_PRELOAD=$fault FAULT_PROGRAM=bert-trainer FAULT_CALL=$1 FAULT_N=$2 FAULT_COUNT=counter FAULT_KILL=1 prepare c text
        code=$?
        [ $code -ne 0 ] || return 3
        [ $code -eq 137 ] && old_new_or_gone
}
recovers() { prepare c text && same c new '' && same c new -validation && [ "$(find . -name 'c.*' -o -name 'c-*' | wc -l)" -eq 6 ]; }
keeps_old() { same c old '' && same c old -validation; }

numbered_text 20000 >text
head -n 3000 text >old-text
"$BERT_TRAINER" vocab --size 200 --output vocab.txt text 2>/dev/null
prepare old old-text 2>/dev/null
prepare new text 2>/dev/null

if LD_PRELOAD=$fault "$BERT_TRAINER" --help >/dev/null 2>&1; then
        for call in fsync unlink rename; do
                n=1
                while [ $n -lt 30 ]; do
                        killed $call $n >said 2>&1
                        code=$?
                        [ $code -ne 3 ] || break
                        ok "killed before $call $n: no mixture" test $code -eq 0
                        [ $call != fsync ] || [ $n -gt 1 ] || ok "the old corpus is whole until the new one is" keeps_old
                        ok "killed before $call $n: a second run is as one undisturbed" recovers
                        n=$((n + 1))
                done
                ok "there was a $call to die before" test $n -gt 1
        done
else
        skip "killed before each call" "the program does not run with a library in front"
fi

for at in 0.001 0.004 0.008 0.012 0.02 0.03 0.05 0.08 0.12 0.2; do
        copy old c
        "$BERT_TRAINER" prepare --vocab vocab.txt --format prose --validation 0.1 --output c text 2>/dev/null &
        sleep $at
        kill -9 $! 2>/dev/null
        wait $! 2>/dev/null
        ok "killed after $at s: no mixture" old_new_or_gone
        ok "killed after $at s: a second run is as one undisturbed" recovers
done
finish
