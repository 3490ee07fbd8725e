#!/bin/sh
# Builds the Debian package (target/debian/postbackd_*.deb): binary, units, a first configuration, manual pages, completions.
#
#   cargo install cargo-deb     # once
#   systemd/package.sh
set -eu
cd "$(dirname "$0")/.."

cargo build --locked --release
built=target/release/postbackd
rm -rf target/package
"$built" man target/package/man
"$built" completions bash >target/package/postbackd.bash
"$built" completions zsh >target/package/_postbackd
"$built" completions fish >target/package/postbackd.fish
cargo deb --no-build --locked
