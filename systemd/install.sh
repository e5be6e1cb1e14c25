#!/bin/sh
# Conclave on this machine, by systemd. Needs root, systemd 250 or later, Python 3.11 and a redis-server (7.0 or later).
# May be run again at any time: it changes only what differs.
#
#   systemd/install.sh                  install or upgrade to this tree, and start it
#   systemd/install.sh rollback         back to the release before; again: forward
#   systemd/install.sh units            enable the units that /etc/conclave/conclave.toml asks for
#   systemd/install.sh rotate [USER..]  new passwords at the server, for these users or for all
#   systemd/install.sh uninstall        stop and remove it; /etc/conclave and /var/lib/conclave* stay
#
# Exit codes: 0 done, 1 the release does not run, 2 wrong usage or nothing was done.
# RELEASE names the release (default: version and commit). EXTRAS=train,ml,notify,telemetry trains networks too, with
# torch. PIP_* is yours to set; wheels/ is used where it has files.
set -eu

tree=$(cd "$(dirname "$0")/.." && pwd)
home=/opt/conclave
etc=/etc/conclave
units=/etc/systemd/system
extras=${EXTRAS:-train,networks,notify,telemetry,exchange,observatory,phone}

say() { printf 'conclave: %s\n' "$*"; }
fail() { say "$*" >&2; exit 2; }

release_name() {
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$tree/pyproject.toml")
    commit=$(git -C "$tree" rev-parse --short HEAD 2>/dev/null || echo source)
    echo "${RELEASE:-$version-$commit}"
}

users() {
    getent passwd redis >/dev/null || fail "no user redis: install redis-server first (apt install redis-server)"
    getent passwd conclave >/dev/null ||
        useradd --system --user-group --home-dir /var/lib/conclave --no-create-home --shell /usr/sbin/nologin conclave
}

build() { # a release is whole or absent: it is built where it will stand, and named by its last step
    release=$home/releases/$1
    [ -e "$release/.whole" ] && return
    say "building $release"
    rm -rf "$release" && mkdir -p "$release"
    python3 -m venv "$release"
    wheels="" && [ -d "$tree/wheels" ] && wheels="--find-links $tree/wheels"
    # shellcheck disable=SC2086  # two words
    PIP_CONSTRAINT="$tree/constraints.txt" "$release/bin/python" -m pip --disable-pip-version-check install --quiet \
        --no-cache-dir $wheels "$(source_of "$release")[$extras]"
    rm -rf "$release/source"
    mkdir -p "$release/share"
    cp -R "$tree/systemd/." "$release/share/"
    touch "$release/.whole"
}

forget() { # releases other than this one and the one before
    for release in "$home"/releases/*; do
        case releases/${release##*/} in
            "$(readlink "$home/current")" | "$(readlink "$home/previous")") ;;
            *) rm -rf "$release" ;;
        esac
    done
}

source_of() { # a copy, so that building leaves nothing in the tree
    mkdir "$1/source"
    (cd "$tree" && cp -R pyproject.toml README.md conclave_signals.py schemas shared services "$1/source/")
    echo "$1/source"
}

point() { # at a release, in one step
    ln -sfn "$1" "$home/.current" && mv -T "$home/.current" "$home/current"
}

configure() {
    share=$home/current/share
    mkdir -p "$etc/keys" && chmod 755 "$etc" && chmod 700 "$etc/keys"
    for file in conclave.toml redis.conf; do
        [ -e "$etc/$file" ] || install -m 644 "$share/$file" "$etc/$file"
    done
    "$home/current/bin/conclave" access "$etc/keys" >/dev/null
    install -d -o conclave -g conclave -m 750 /var/lib/conclave /var/lib/conclave/artifacts /var/lib/conclave/archive
    install -d -o conclave -g conclave -m 700 /var/lib/conclave/keys /var/lib/conclave/phone
    for unit in "$share"/conclave*.service "$share"/conclave.target; do install -m 644 "$unit" "$units/"; done
    for file in "$share"/*.service.d/*.conf; do install -m 644 -D "$file" "$units/${file#"$share/"}"; done
    install -d -m 700 "$etc/notify" "$etc/phone"
    install -m 755 "$share/conclave" /usr/local/bin/conclave
    systemctl daemon-reload
}

wanted() { # the units of this release that the settings ask for; the feed is started by hand
    "$home/current/bin/python" -P - "$etc/conclave.toml" "$home/current/share" <<'PYTHON'
import sys
from pathlib import Path
from shared.settings import load
settings = load(sys.argv[1])
for unit in sorted(Path(sys.argv[2]).glob("conclave-*.service")):
    name, template, _ = unit.stem.partition("@")
    if not template and name not in {"conclave-feed", "conclave-prepare", "conclave-redis"}:
        print(unit.name)
    for partition in range(settings.installation.partitions if template else 0):
        of = [f"{model}:" for model in settings.models.names] if name == "conclave-model-worker" else [""]
        print(*(f"{name}@{each}{partition}.service" for each in of), sep="\n")
PYTHON
}

enable() {
    asked=$(wanted)
    for link in "$units"/conclave.target.wants/conclave-*; do
        unit=${link##*/}
        case $unit in conclave-feed.service | conclave-prepare.service | conclave-redis.service) continue ;; esac
        # shellcheck disable=SC2086  # one unit a word
        [ -L "$link" ] && ! printf '%s\n' $asked | grep -qxF "$unit" && systemctl --quiet disable --now "$unit"
    done
    # shellcheck disable=SC2086  # one unit a word
    systemctl --quiet enable conclave.target conclave-redis.service conclave-prepare.service $asked
    for unit in "$units"/conclave-*.service; do # of another release
        [ -e "$home/current/share/${unit##*/}" ] || rm "$unit"
    done
    systemctl daemon-reload
}

start() { # units of a stopped installation start, those of a running one change over to the release
    asked=$(wanted)
    voters=$(printf '%s\n' $asked | grep ensemble-voter)
    others=$(printf '%s\n' $asked | grep -v ensemble-voter)
    # No vote is taken while members come and go: the voters end first and come back last. Meanwhile the log keeps
    # what arrives.
    systemctl reset-failed 'conclave*' 2>/dev/null || true
    # shellcheck disable=SC2086  # one unit a word
    if systemctl stop $voters &&
        systemctl restart conclave-prepare.service $others &&
        systemctl start $voters && systemctl try-restart conclave-feed.service && systemctl start conclave.target
    then
        say "running release $(basename "$(readlink "$home/current")"); \`conclave status\` shows it"
    else
        systemctl --no-pager --plain --no-legend --failed list-units 'conclave*' >&2 || true
        say "release $(basename "$(readlink "$home/current")") does not run: \`journalctl -u 'conclave*' -p err\` says why," \
            "\`systemd/install.sh rollback\` goes back to $(basename "$(readlink "$home/previous" || echo none)")" >&2
        exit 1
    fi
}

install_release() {
    users
    name=$(release_name)
    build "$name"
    before=$(readlink "$home/current" 2>/dev/null || true)
    [ -n "$before" ] && [ "$before" != "releases/$name" ] && ln -sfn "$before" "$home/previous"
    point "releases/$name"
    configure
    enable
    forget
    start
}

rollback() {
    before=$(readlink "$home/previous") || fail "no release before this one in $home/releases"
    ln -sfn "$(readlink "$home/current")" "$home/previous"
    point "$before"
    configure
    enable
    start
}

rotate() { # the server reads its file when it starts; whoever was connected comes back with the new password
    for user in "$@"; do
        [ -e "$etc/keys/$user/password" ] || fail "no user $user; there are: $(cd "$etc/keys" && echo */ | tr -d /)"
    done
    [ $# -gt 0 ] || set -- $(cd "$etc/keys" && echo */ | tr -d /)
    for user in "$@"; do rm "$etc/keys/$user/password"; done
    "$home/current/bin/conclave" access "$etc/keys"
    systemctl restart conclave-redis.service
    start
}

uninstall() {
    systemctl --quiet disable --now conclave.target 'conclave-*' 2>/dev/null || true
    for unit in $(systemctl list-units --all --plain --no-legend 'conclave*' | cut -d' ' -f1); do
        systemctl --quiet stop "$unit" 2>/dev/null || true
    done
    rm -rf "$units"/conclave* "$units"/multi-user.target.wants/conclave.target /usr/local/bin/conclave "$home"
    systemctl daemon-reload
    systemctl reset-failed 'conclave*' 2>/dev/null || true
    say "removed; the log, artifacts and keys stay in /var/lib/conclave-redis, /var/lib/conclave and $etc"
}

[ "$(id -u)" = 0 ] || fail "needs root"
case ${1:-install} in
    install) install_release ;;
    rollback) rollback ;;
    units) enable && start ;;
    rotate) shift && rotate "$@" ;;
    uninstall) uninstall ;;
    *) fail "unknown word $1; there are: install, rollback, units, rotate, uninstall" ;;
esac
