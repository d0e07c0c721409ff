# For the text commands' shell tests: TAP in a temporary folder. Sourced, not run; BERT_TRAINER names the program.
. "${SOURCE_DIR:-$(dirname "$0")/../..}/tests/lib.sh"
tap_start
cd "$work" || exit 99

numbered_text() { # N: N lines of two sentences, ten a document
        i=0
        while [ $i -lt "$1" ]; do
                echo "The quick brown fox number $i jumps over the lazy dog. It was seen by Dr. Smith at $((i * 7 % 31)) o'clock!"
                [ $((i % 10)) -ne 9 ] || printf '\n\n'
                i=$((i + 1))
        done
}
