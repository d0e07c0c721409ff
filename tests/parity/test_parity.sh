#!/bin/sh
# The recorded models of tests/parity/golden (or of the folder named) against this trainer: import, then parity. TAP.
. "$(dirname "$0")/../cli/trainer-lib.sh"
golden=${1:-$SOURCE_DIR/tests/parity/golden}
for folder in "$golden"/*/; do
        name=$(basename "$folder")
        "$TRAINER" import "$folder" --output "$work/$name.ckpt" 2>/dev/null && "$BUILD_DIR/tests/parity" "$folder" "$work/$name.ckpt" >out 2>&1
        status=$?
        sed 's/^/# /' out
        ok "$name is as in transformers" test $status -eq 0
done
finish
