# shellcheck shell=bash
# quaymaster: one process for a whole list. QUAYMASTER names another binary.
Q=("${QUAYMASTER:-quaymaster}" --plain-http -q)
version() { "${Q[@]}" --version; }
copy_bulk() { "${Q[@]}" -J "${JOBS:-4}" -j "${JOBS:-4}" process "list://$3?registry=$1" "registry://$2"; }
copy_bulk_all() { copy_bulk "$@"; }
copy_one() { "${Q[@]}" process "registry://$1" "registry://$2"; }
to_oci() { "${Q[@]}" process "registry://$1" "ocidir://$2"; }
to_tar() { "${Q[@]}" process "registry://$1" "tar://$2"; }
to_dir() { "${Q[@]}" process "registry://$1" "dir://$2"; }
normalize() { "${Q[@]}" process "registry://$1" "registry://$2" -f normalize-timestamps; }
normalize_tar() { "${Q[@]}" process "registry://$1" "tar://$2" -f normalize-timestamps; }
search() { "${Q[@]}" search "registry://$1" "$2"; }
inspect_bulk() { "${Q[@]}" -J "${JOBS:-4}" -O json info "list://$2?registry=$1"; }
list_since() { "${Q[@]}" --quay-host "$1" list "quay://$2?since=$3"; }
list_since_free() { "${Q[@]}" --rate-limit 0 --quay-host "$1" list "quay://$2?since=$3"; }
