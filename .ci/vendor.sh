#!/usr/bin/env bash
# Downloads the files of livebackend/static/vendor from npm. To change a version, edit this script
# and run it. tests/api/test_html_pages.py compares the files with the digests in .ci/vendor.sha256.
set -euo pipefail
cd -- "$(dirname -- "$0")/.."
vendor=$PWD/livebackend/static/vendor
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

copy_from_npm() { # package, version, path in the package, name in vendor/
    local archive
    archive=$(cd "$folder" && npm pack --silent "$1@$2")
    mkdir -p "$folder/$archive.d"
    tar -xzf "$folder/$archive" -C "$folder/$archive.d"
    cp "$folder/$archive.d/package/$3" "$vendor/$4"
}

# The minified build refers to a source map, which is not served.
copy_from_npm hls.js 1.7.4 dist/hls.light.min.mjs hls.js
sed -i '/^\/\/# sourceMappingURL=/d' "$vendor/hls.js"
copy_from_npm hls.js 1.7.4 LICENSE hls.LICENSE.txt
copy_from_npm qrcode-generator 2.0.4 dist/qrcode.mjs qrcode.js
copy_from_npm @fontsource-variable/schibsted-grotesk 5.3.0 files/schibsted-grotesk-latin-wght-normal.woff2 schibsted-grotesk.woff2
copy_from_npm @fontsource-variable/schibsted-grotesk 5.3.0 LICENSE schibsted-grotesk.LICENSE.txt
copy_from_npm @fontsource-variable/jetbrains-mono 5.3.0 files/jetbrains-mono-latin-wght-normal.woff2 jetbrains-mono.woff2
copy_from_npm @fontsource-variable/jetbrains-mono 5.3.0 LICENSE jetbrains-mono.LICENSE.txt
# The package qrcode-generator has no license file: qrcode.LICENSE.txt is the license that its
# source names.
chmod 644 "$vendor"/*
(cd "$vendor" && sha256sum -- *.js *.woff2 *.LICENSE.txt) > .ci/vendor.sha256
