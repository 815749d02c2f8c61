#!/usr/bin/env bash
# Fetches what livebackend/static/vendor holds, from npm at pinned versions. Run it to change one;
# tests/api/test_pages.py compares the files with their digests in .ci/vendor.sha256.
set -euo pipefail
cd -- "$(dirname -- "$0")/.."
vendor=$PWD/livebackend/static/vendor
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

take() { # package, version, file in it, its name here
    local archive
    archive=$(cd "$folder" && npm pack --silent "$1@$2")
    mkdir -p "$folder/$archive.d"
    tar -xzf "$folder/$archive" -C "$folder/$archive.d"
    cp "$folder/$archive.d/package/$3" "$vendor/$4"
}

# The minified build names a map that is not served.
take hls.js 1.7.4 dist/hls.light.min.mjs hls.js
sed -i '/^\/\/# sourceMappingURL=/d' "$vendor/hls.js"
take hls.js 1.7.4 LICENSE hls.LICENSE.txt
take qrcode-generator 2.0.4 dist/qrcode.mjs qrcode.js
take @fontsource-variable/schibsted-grotesk 5.3.0 files/schibsted-grotesk-latin-wght-normal.woff2 schibsted-grotesk.woff2
take @fontsource-variable/schibsted-grotesk 5.3.0 LICENSE schibsted-grotesk.LICENSE.txt
take @fontsource-variable/jetbrains-mono 5.3.0 files/jetbrains-mono-latin-wght-normal.woff2 jetbrains-mono.woff2
take @fontsource-variable/jetbrains-mono 5.3.0 LICENSE jetbrains-mono.LICENSE.txt
# qrcode.LICENSE.txt is the text that its file names; the package brings none.
chmod 644 "$vendor"/*
(cd "$vendor" && sha256sum -- *.js *.woff2 *.LICENSE.txt) > .ci/vendor.sha256
