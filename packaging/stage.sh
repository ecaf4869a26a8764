#!/bin/sh
# What a package brings, from two programs: `packaging/stage.sh BINARIES STAGE`.
#
# debian/rules and packaging/rpm/pump.spec put it where their system wants it; packaging/files.list says what that
# has to be. The build of a release is the hash of its `pumpd`, so nothing may change a program afterwards.
set -eu

binaries=$1
stage=$2
here=$(dirname "$0")

install -D -m 0755 "$binaries/pump" "$stage/bin/pump"
install -D -m 0755 "$binaries/pumpd" "$stage/bin/pumpd"
pump=$stage/bin/pump
"$pump" --quiet generate release "$stage"
"$pump" --quiet generate units "$stage/systemd"
"$pump" --quiet generate man "$stage/man"
mkdir -p "$stage/completions"
"$pump" completions bash >"$stage/completions/pump"
"$pump" completions zsh >"$stage/completions/_pump"
"$pump" completions fish >"$stage/completions/pump.fish"
cp "$here/../systemd/sysusers.d/pump.conf" "$stage/sysusers.conf"
cp "$here/../systemd/tmpfiles.d/pump.conf" "$stage/tmpfiles.conf"
