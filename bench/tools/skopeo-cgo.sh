# shellcheck shell=bash
# skopeo built with cgo: its blob info cache works, so it mounts.
SKOPEO=skopeo-cgo
# shellcheck source=bench/tools/skopeo-lib.sh
. "$HERE/tools/skopeo-lib.sh"
