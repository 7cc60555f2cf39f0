# Two registries on loopback, plain HTTP, deletion allowed: one open, one that wants a name and a password.
# shellcheck shell=bash

REGISTRY_USER=kiln
# A colon inside, because a password may have one and basic authentication splits at the first.
REGISTRY_PASSWORD=p:ss

registry_fetch() { deb_programs docker-registry docker-registry "${REGISTRY_DEB[@]}"; }

registry_up() {
    local name=$1 dir port auth='' credentials=()
    dir=$(state "$name") port=$(port_of "$name")
    if [[ $name == registry-auth ]]; then
        credentials=(--user "$REGISTRY_USER:$REGISTRY_PASSWORD")
        # bcrypt is the one hash that the registry takes.
        htpasswd -nbB "$REGISTRY_USER" "$REGISTRY_PASSWORD" >"$dir/htpasswd"
        auth="auth: {htpasswd: {realm: kiln, path: $dir/htpasswd}}"
    fi
    cat >"$dir/config.yml" <<-END
		version: 0.1
		log: {level: info, accesslog: {disabled: true}}
		storage:
		  filesystem: {rootdirectory: $dir/data}
		  delete: {enabled: true}
		http:
		  addr: 127.0.0.1:$port
		$auth
	END
    start "$name" "$KILN_BIN/docker-registry-${REGISTRY_DEB[0]#*=}/usr/bin/docker-registry" serve "$dir/config.yml"
    await "$name" 20 curl -fsS --noproxy '*' "${credentials[@]}" "http://127.0.0.1:$port/v2/"
}

registry_env() {
    if [[ $1 == registry ]]; then
        printf 'export KILN_TEST_REGISTRY=127.0.0.1:%s\n' "$(port_of registry)"
    else
        printf 'export KILN_TEST_REGISTRY_AUTH=127.0.0.1:%s\n' "$(port_of registry-auth)"
        printf 'export KILN_TEST_REGISTRY_AUTH_USER=%q\n' "$REGISTRY_USER"
        printf 'export KILN_TEST_REGISTRY_AUTH_PASSWORD=%q\n' "$REGISTRY_PASSWORD"
    fi
}
