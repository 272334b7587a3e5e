#!/usr/bin/env bash
# Installs what the tests need of the machine, beside Go, git and make:
#
#   gcc, libc6-dev   the race detector
#   skopeo, umoci    further readers of the layouts and archives that we write
#   podman           the other daemon
#   docker.io, containerd, runc
#                    dockerd, to run images that filters changed; each test
#                    starts its own
#   busybox-static   what these images hold
#
# Does nothing where all of it is there. Needs root and Debian's apt-get to
# install; without them it says what is missing, and tests that need it are
# skipped (under CI=true: an error).
set -euo pipefail

missing=()
command -v gcc >/dev/null || missing+=(gcc)
[ "$(uname)" != Linux ] || [ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
command -v skopeo >/dev/null || missing+=(skopeo)
command -v umoci >/dev/null || missing+=(umoci)
command -v podman >/dev/null || missing+=(podman)
if ! command -v dockerd >/dev/null; then
	missing+=(docker.io) # until Debian 12 the client is in it
elif ! command -v docker >/dev/null; then
	missing+=(docker-cli)
fi
command -v containerd >/dev/null || missing+=(containerd)
command -v runc >/dev/null || missing+=(runc)
command -v busybox >/dev/null || missing+=(busybox-static)

[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	export DEBIAN_FRONTEND=noninteractive
	echo "set-up: installing ${missing[*]}"
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
	command -v docker >/dev/null || apt-get install -y -qq --no-install-recommends docker-cli </dev/null >/dev/null
	exit 0
fi

echo "set-up: missing: ${missing[*]} (as root on Debian: apt-get install ${missing[*]})" >&2
[ "${CI:-}" != true ] || exit 1
