#!/bin/sh
# Fetches the newest release of pump and runs its `pump install`.
#
#   sh install.sh SOURCE [ANSWERS...]
#
# SOURCE is an https:// URL or a folder that carries releases; ANSWERS are flags of `pump install`,
# such as `--domain social.example --yes`. PUMP_CHANNEL=beta takes releases on trial.
#
# It needs a POSIX shell, curl or wget, and sha256sum or openssl; with minisign it can check who made what
# it fetches. By itself it writes only to a temporary folder that is gone afterwards; what `pump install`
# makes is listed in files.list.
#
# What is checked: that both files are those whose hashes SOURCE names and, where there is a key and a
# `minisign`, that the publisher has signed both; one that is not signed is not installed. The key is the one
# below, which came with this script, or PUMP_MINISIGN_KEY, which you have from the publisher in another
# way; whoever gives it wants it checked, so a missing `minisign` ends the installation. Without a key
# whoever controls SOURCE, or the way to it, controls what is installed here. What no signature of a file
# can tell is that there is nothing newer; from the first install on `pump upgrade` sees to that.
#
# Exit codes: 2 usage, 40 wrong hash or signature, 50 a program is missing, 75 could not fetch, 77 needs root; else
# those of `pump install`.

# Nothing runs before the last line: a download that was cut short does nothing.

set -u

TARGET=x86_64-unknown-linux-gnu

# The publisher's key, as `minisign -P` takes it; `cargo xtask dist` writes it here.
MINISIGN_KEY=

say() { printf '%s\n' "$*" >&2; }

# refuse CODE TEXT HINT
refuse() {
    say "error: $2"
    [ -z "${3:-}" ] || say "hint: $3"
    exit "$1"
}

have() { command -v "$1" >/dev/null 2>&1; }

# fetch PATH-IN-SOURCE FILE
fetch() {
    case "$source" in
    http://* | https://*)
        if have curl; then
            # A redirect from https:// to http:// would lead to whoever is on the way.
            case "$source" in https://*) led='=https' ;; *) led='=http,https' ;; esac
            curl --fail --silent --show-error --location --proto-redir "$led" --output "$2" \
                "$source/$1"
        elif have wget; then
            wget -q -O "$2" "$source/$1"
        else
            refuse 50 "neither curl nor wget is here" "install one of them, or give a folder"
        fi ;;
    *) cp "$source/$1" "$2" ;;
    esac || refuse 75 "could not fetch \`$source/$1\`" "look at the address, and try again"
}

hash_of() {
    if have sha256sum; then
        sha256sum "$1" | cut -d ' ' -f 1
    elif have openssl; then
        openssl dgst -sha256 -r "$1" | cut -d ' ' -f 1
    else
        refuse 50 "neither sha256sum nor openssl is here, so nothing can be checked" "install coreutils"
    fi
}

# fetch_listed LIST FILE: the file that the list names, if it has the hash that the list names
fetch_listed() {
    fetch "$1" "$work/list"
    read -r hash path rest <"$work/list" || hash=
    case "$path$rest" in
    targets/*[!A-Za-z0-9._+-]* | targets/.* | *..*) hash= ;;
    targets/*) ;;
    *) hash= ;;
    esac
    [ "${#hash}" -eq 64 ] || refuse 40 "\`$source/$1\` is not \`HASH  targets/FILE\`" "ask the publisher"
    fetch "$path" "$2"
    found=$(hash_of "$2") || exit $?
    [ "$found" = "$hash" ] ||
        refuse 40 "\`$path\` has the hash $found and \`$1\` says $hash; nothing was installed" "try again"
}

# check_signature FILE: that the publisher has signed what fetch_listed has fetched last, under its name
check_signature() {
    [ -n "$key" ] || return 0
    if ! have minisign; then
        [ -z "${PUMP_MINISIGN_KEY:-}" ] ||
            refuse 50 "PUMP_MINISIGN_KEY is set, and there is no minisign to check with" "run \`apt install minisign\`"
        return 0
    fi
    # Whoever has changed the file could have taken its signature away, so one has to be there. In a shell of
    # its own, since a missing file ends `fetch`.
    (fetch "$path.minisig" "$1.minisig") 2>/dev/null ||
        refuse 40 "\`$path\` has no signature, and this publisher signs; nothing was installed" "tell the publisher"
    told=$(minisign -V -Q -P "$key" -m "$1" -x "$1.minisig" 2>/dev/null) ||
        refuse 40 "\`$path\` is not signed by the key $key; nothing was installed" "tell the publisher"
    # The name without the hash before it.
    name=${path#targets/}
    name=${name#*.}
    case "$told " in
    "file:$name "*) ;;
    *) refuse 40 "\`$path\` was signed as something else: $told; nothing was installed" "tell the publisher" ;;
    esac
    checked=yes
}

has_flag() {
    wanted=$1
    shift
    for word in "$@"; do
        case "$word" in "$wanted" | "$wanted="*) return 0 ;; esac
    done
    return 1
}

main() {
    case "${1:-}" in
    '' | -*) refuse 2 "the source of releases is missing" "run \`sh install.sh SOURCE\`, a URL or a folder" ;;
    esac
    source=${1%/}
    shift
    case "$source" in
    http://127.0.0.1[:/]* | http://localhost[:/]* | https://*) ;;
    http://*) refuse 2 "\`$source\` is not encrypted, and anybody on the way could change it" "give an https:// URL" ;;
    *)
        [ -d "$source" ] || refuse 2 "\`$source\` is neither a URL nor a folder"
        source=$(cd "$source" && pwd) || exit 2 ;;
    esac
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
        refuse 50 "releases are made for Linux on x86_64, and this is $(uname -s) on $(uname -m)"
    if [ "$(id -u)" -ne 0 ] && ! has_flag --root "$@"; then
        refuse 77 "installing needs root" "run \`sudo sh install.sh $source $*\`"
    fi

    channel=${PUMP_CHANNEL:-stable}
    key=${PUMP_MINISIGN_KEY:-$MINISIGN_KEY}
    checked=no
    umask 022
    work=$(mktemp -d) || refuse 50 "could not make a temporary folder" "set TMPDIR to one that can be written"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM

    say "fetching the newest release of $channel from $source"
    fetch_listed "$channel.sha256" "$work/pump-$TARGET.tar.zst"
    check_signature "$work/pump-$TARGET.tar.zst"
    # The bundle is compressed with zstd, which few machines have; pump unpacks it.
    fetch_listed "$channel-pump.sha256" "$work/pump"
    check_signature "$work/pump"
    chmod 755 "$work/pump"
    if [ "$checked" = yes ]; then
        say "both files are signed by the key $key"
    elif [ -n "$key" ]; then
        say "hashes are as the source names them; signatures were not checked, since there is no minisign"
    else
        say "hashes are as the source names them; signatures were not checked, pump does that from now on"
    fi

    has_flag --source "$@" || set -- --source "$source" "$@"
    set -- install --from "$work/pump-$TARGET.tar.zst" "$@"
    # In `curl … | sh` standard input is this script, and questions need the terminal.
    if [ ! -t 0 ] && [ -t 2 ] && (: </dev/tty) 2>/dev/null; then
        "$work/pump" "$@" </dev/tty
    else
        "$work/pump" "$@"
    fi
    code=$?
    [ "$code" -ne 126 ] || say "hint: programs may not run in \`$work\`; set TMPDIR to another folder"
    exit "$code"
}

main "$@"
