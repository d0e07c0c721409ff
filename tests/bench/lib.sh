# Sourced by the benchmarks that need a daemon or a corpus: tests/e2e/lib.sh, and an end that is seen.
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"
give_up() { # WHY: the library ends with tap_failed, whatever exit is told
  echo "${0##*/}: $*" >&2
  tap_failed=1
  exit
}
