# Sourced by the benchmarks that need a daemon or a corpus: tests/e2e/lib.sh, without points.
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"
tap_end() {
  local status=$?
  cleanup
  rm -rf "$work"
  exit $status
}
give_up() { # WHY
  echo "${0##*/}: $*" >&2
  exit 1
}
