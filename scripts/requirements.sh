# Sourced by the other scripts: `require NAME...` sees to it that programs are there. On Debian and Ubuntu it installs
# what is missing; elsewhere it says what to install.
# shellcheck shell=bash

# Prints a headline.
say() {
    printf '\n== %s\n' "$1"
}

# Ends with one sentence.
fail() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    exit 1
}

# Whether a program is there.
have() {
    case $1 in
    postgres) command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ;;
    font) [ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# The Debian packages of a program.
packages() {
    case $1 in
    postgres) echo postgresql ;;
    npm) echo nodejs npm ;;
    chromedriver) echo chromium-driver ;;
    font) echo fonts-dejavu-core ;;
    cc) echo gcc libc6-dev ;;
    *) echo "$1" ;;
    esac
}

require() {
    local missing=() program
    have cargo || fail "cargo is not installed; install Rust 1.94 or newer from https://rustup.rs"
    for program in cc "$@"; do
        # shellcheck disable=SC2207
        have "$program" || missing+=($(packages "$program"))
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    have apt-get || fail "not installed: ${missing[*]} (named as in Debian); install them and run this again"
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    say "Installing ${missing[*]}"
    # a server of Debian's own is not wanted: each data folder has one
    "${as_root[@]}" mkdir -p /etc/postgresql-common/createcluster.d
    printf 'create_main_cluster = false\n' |
        "${as_root[@]}" tee /etc/postgresql-common/createcluster.d/parsimony.conf >/dev/null
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"
}
