#!/usr/bin/env bash
# Installs what `make interop` compares with: occystrap into .bin/occystrap and
# pubtools-quay into .bin/pubtools-quay, in the versions and with the libraries of
# interop-requirements.txt and interop-pubtools-requirements.txt.
#
# Does nothing where they are there. Needs python3 with venv; without them it
# installs them where set-up.sh would.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

need_python() {
	! python3 -c 'import venv, ensurepip' 2>/dev/null || return 0
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "set-up-interop: missing: python3 with venv (as root on Debian: apt-get install python3 python3-venv)" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	echo "set-up-interop: installing python3 python3-venv"
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends python3 python3-venv ca-certificates </dev/null >/dev/null
}

# set_up NAME LIST CHECK puts what LIST has into .bin/NAME. CHECK is a command, of
# its folder's bin, that says whether the list is enough.
set_up() {
	local name=$1 list=$2 dir=.bin/$1
	shift 2
	! cmp -s "$list" "$dir/installed" || return 0
	need_python
	echo "set-up-interop: installing $name"
	rm -rf "$dir"
	python3 -m venv "$dir"
	# The list is whole, so nothing else may come with it.
	"$dir/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$list"
	"$dir/bin/$1" "${@:2}" >/dev/null
	cp "$list" "$dir/installed" # the last thing: what is half installed is done again
}

set_up occystrap scripts/interop-requirements.txt pip --disable-pip-version-check check
# Of pubtools-quay only the merger is compared, and the client that it speaks to
# registries with: what it needs to sign, push and send messages is left out.
set_up pubtools-quay scripts/interop-pubtools-requirements.txt python -c 'import pubtools._quay.manifest_list_merger'
