# A server that speaks CouchDB's protocol, in memory: it starts empty.
# shellcheck shell=bash

couchdb_home() { printf '%s/couchdb-%s' "$KILN_BIN" "$(sha256sum <"$KILN_DEPLOY/dev/couchdb/package-lock.json" | cut -c1-12)"; }

couchdb_fetch() {
    local home work
    home=$(couchdb_home)
    [[ -d $home ]] && return
    command -v npm >/dev/null || die "Node.js with npm is needed for couchdb (Debian: apt-get install nodejs npm)"
    say "installing express-pouchdb (once)"
    work=$(work_folder)
    cp "$KILN_DEPLOY"/dev/couchdb/package*.json "$work/"
    (cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --update-notifier=false >&2)
    mkdir -p "$KILN_BIN"
    mv "$work" "$home"
}

couchdb_up() {
    local port
    port=$(port_of couchdb)
    # Programs are found from the folder of the script that asks; it lies elsewhere.
    NODE_PATH=$(couchdb_home)/node_modules start couchdb node "$KILN_DEPLOY/dev/couchdb/server.js" "$port"
    await couchdb 30 curl -fsS --noproxy '*' "http://127.0.0.1:$port/"
}

couchdb_env() { printf 'export KILN_TEST_COUCHDB=http://127.0.0.1:%s\n' "$(port_of couchdb)"; }
