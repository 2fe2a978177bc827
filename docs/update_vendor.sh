#!/usr/bin/env bash
# Makes report/vendor/ anew from what npm has of these versions: the libraries that every report holds.
#
#   docs/update_vendor.sh          needs node and npm; then run pytest tests/report with a browser, and look at a report
set -euo pipefail

D3=7.9.2
GRAPHVIZ=1.29.2 # of @hpcc-js/wasm-graphviz, which is Graphviz 16.1.0
ESBUILD=0.28.2

vendor=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../report/vendor" && pwd -P)
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
cd -- "$work"
npm init --yes > /dev/null
npm install --silent --no-save "d3@$D3" "@hpcc-js/wasm-graphviz@$GRAPHVIZ" "esbuild@$ESBUILD"

cp node_modules/d3/dist/d3.min.js "$vendor/d3.min.js"
# The package is an ES module, which one inline script cannot import from another: as a script it gives a global.
npx esbuild node_modules/@hpcc-js/wasm-graphviz/dist/index.js --bundle --format=iife --global-name=graphviz --minify \
    --charset=utf8 --log-level=warning --outfile="$vendor/graphviz.js" \
    --banner:js="/*! @hpcc-js/wasm-graphviz $GRAPHVIZ, Apache License 2.0; with Graphviz, Eclipse Public License */"
ls -l "$vendor"
