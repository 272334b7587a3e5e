#!/usr/bin/env bash
# Installs what `make interop` compares with: occystrap, in the version and with
# the libraries of interop-requirements.txt, into .bin/occystrap.
#
# Does nothing where they are there. Needs python3 with venv; without them it
# installs them where set-up.sh would.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

list=scripts/interop-requirements.txt
dir=.bin/occystrap
! cmp -s "$list" "$dir/installed" || exit 0

if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "set-up-interop: missing: python3 with venv (as root on Debian: apt-get install python3 python3-venv)" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	echo "set-up-interop: installing python3 python3-venv"
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends python3 python3-venv ca-certificates </dev/null >/dev/null
fi

echo "set-up-interop: installing occystrap"
rm -rf "$dir"
python3 -m venv "$dir"
# The list is whole, so nothing else may come with it.
"$dir/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$list"
"$dir/bin/pip" --disable-pip-version-check check >/dev/null
cp "$list" "$dir/installed" # the last thing: what is half installed is done again
