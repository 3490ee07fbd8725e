#!/bin/sh
# Builds the Debian package (target/debian/postbackd_*.deb): binary, units, a first configuration, manual pages, completions.
#
#   cargo install cargo-deb     # once
#   DEBFULLNAME="Jane Doe" DEBEMAIL=jane@example.com systemd/package.sh
set -eu
cd "$(dirname "$0")/.."

cargo build --locked --release
built=target/release/postbackd
rm -rf target/package
"$built" man target/package/man
"$built" completions bash >target/package/postbackd.bash
"$built" completions zsh >target/package/_postbackd
"$built" completions fish >target/package/postbackd.fish
# Whoever gives it to others puts their own name on it.
set --
[ -z "${DEBEMAIL:-}" ] || set -- --maintainer "${DEBFULLNAME:-postbackd} <$DEBEMAIL>"
cargo deb --no-build --locked "$@"
