#!/bin/bash
# How long scripts/demo and scripts/test take on a Debian with nothing installed: a root of debootstrap's minimum in a container, with this
# machine's apt mirror and proxies and the committed tree. Prints Markdown; fails where one of them does. Needs root.
set -euo pipefail
project=$(cd "$(dirname "$0")/../.." && pwd)
((EUID == 0)) || { echo "bench-suite: needs root" >&2; exit 1; }
for pair in debootstrap:debootstrap systemd-container:systemd-nspawn; do
  command -v "${pair#*:}" >/dev/null || { apt-get update && apt-get install -y --no-install-recommends "${pair%:*}"; } >&2
done
root=$(mktemp -d /var/tmp/bertd-suite.XXXXXX)
chmod 755 "$root" # the / of users there
trap 'rm -rf "$root"' EXIT
sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' | sort -u | grep ' bookworm')
debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "$(awk '$3 == "bookworm" {print $2; exit}' <<<"$sources")" >&2
echo "$sources" >"$root/etc/apt/sources.list"
cp -a /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
mkdir "$root/root/project"
git -C "$project" archive HEAD | tar -x -C "$root/root/project"

inside() { # COMMAND...
  local options=(-q -D "$root" --register=no --keep-unit --resolv-conf=copy-host --as-pid2 --chdir=/root/project --setenv=HOME=/root) v
  for v in http_proxy https_proxy no_proxy; do [[ -z ${!v-} ]] || options+=(--setenv="$v=${!v}"); done
  systemd-nspawn "${options[@]}" "$@" </dev/null
}
row() { # COMMAND: its minutes
  local begin=$EPOCHSECONDS log=$root/log
  inside "$1" >"$log" 2>&1 || { tail -n 40 "$log" >&2; echo "bench-suite: $1 failed" >&2; exit 1; }
  printf '| `%s` | %.0f | %s |\n' "$1" "$(((EPOCHSECONDS - begin) * 10 / 60))e-1" "$(grep -v nspawn/propagate "$log" | tail -n 1 | tr -d '\r')"
}
packages() { inside dpkg-query -W | wc -l; }
before=$(packages)
rows=$(row scripts/demo; row scripts/test)
installed=$(($(packages) - before))
echo '| command | minutes | its last line |'
echo '|---|---|---|'
echo "$rows"
echo
echo "They install $installed packages."
