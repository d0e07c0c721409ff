# Shared by the text commands' shell tests: TAP, a temporary folder. Sourced, not run; BERT_TRAINER names the program.
set -u
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
count=0 failed=0

ok() { # ok DESCRIPTION COMMAND...: one test point
        count=$((count + 1))
        description=$1
        shift
        if "$@" >said 2>&1; then
                echo "ok $count - $description"
        else
                failed=$((failed + 1))
                echo "not ok $count - $description"
                sed 's/^/# /' said
        fi
}
refuses() { # refuses CODE PATTERN ARGUMENT...: exit code, one line on stderr that has the pattern
        code=$1 pattern=$2
        shift 2
        "$BERT_TRAINER" "$@" >out 2>err </dev/null
        got=$?
        cat err
        [ "$got" -eq "$code" ] && [ "$(wc -l <err)" -eq 1 ] && grep -q -e "$pattern" err
}
numbered_text() { # numbered_text N: N lines of two sentences, ten a document
        i=0
        while [ $i -lt "$1" ]; do
                echo "The quick brown fox number $i jumps over the lazy dog. It was seen by Dr. Smith at $((i * 7 % 31)) o'clock!"
                [ $((i % 10)) -ne 9 ] || printf '\n\n'
                i=$((i + 1))
        done
}
finish() {
        echo "1..$count"
        [ "$failed" -eq 0 ]
}
