#!/usr/bin/env bash
# Installs the Debian packages that are missing of jobs/packages.txt, or of the lists given.
#
#   jobs/setup.sh [LIST...]
#
# If all are there it does nothing and needs no root; else it installs as root, or with sudo.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -gt 0 ] || set -- "$here/packages.txt"

command -v dpkg-query >/dev/null || {
  echo "jobs/setup.sh: this is not a Debian system: install what corresponds to the packages of $* by hand." >&2
  exit 1
}
# What an installed package provides under another name counts too: some nodejs packages bring npm with them.
installed=$(dpkg-query -W -f='${db:Status-Status}|${Package}, ${Provides}\n' |
  sed -n 's/^installed|//p' | sed 's/([^)]*)//g' | tr -s ', ' '\n')
wanted=$(sed 's/#.*//' "$@" | tr -s ' \t' '\n' | sed '/^$/d')
missing=$(grep -vxFf <(echo "$installed") <<<"$wanted" | sort -u || true)
[ -n "$missing" ] || exit 0
mapfile -t missing <<<"$missing"

if [ "$(id -u)" = 0 ]; then
  as_root=()
elif command -v sudo >/dev/null; then
  as_root=(sudo)
else
  echo "jobs/setup.sh: root or sudo is needed to install: ${missing[*]}" >&2
  exit 1
fi
echo "jobs/setup.sh: installing ${#missing[@]} packages: ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
