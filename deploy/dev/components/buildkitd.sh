# Two BuildKit daemons, the pinned one and the oldest that Kiln takes, each with a step network of its own.
# shellcheck shell=bash

buildkit_version() { if [[ $1 == buildkitd-floor ]]; then printf '%s' "$BUILDKIT_FLOOR_VERSION"; else printf '%s' "$BUILDKIT_VERSION"; fi; }
buildkit_bin() { printf '%s' "$KILN_BIN/buildkit-$(buildkit_version "$1")"; }
buildkit_address() { printf 'unix://%s/buildkitd.sock' "$(state "$1")"; }

buildkitd_fetch() {
    # Built without it, a daemon says that it is v0.0.0, which is older than any floor.
    GO_STAMP="github.com/moby/buildkit/version.Version=$(buildkit_version "$1")" \
        go_programs buildkit github.com/moby/buildkit "$(buildkit_version "$1")" ./cmd/buildkitd ./cmd/buildctl
    go_programs cni-plugins github.com/containernetworking/plugins "$CNI_VERSION" \
        ./plugins/main/bridge ./plugins/main/loopback ./plugins/ipam/host-local
    deb_programs runc runc "${RUNC_DEB[@]}"
}

buildkitd_up() {
    local name=$1 dir
    dir=$(state "$name")
    mkdir -p "$dir"
    network_up "$name"
    # The addresses that steps of a killed daemon held.
    rm -rf "$dir/cni"
    buildkitd_cni "$name" >"$dir/cni.json"
    buildkitd_config "$name" >"$dir/buildkitd.toml"
    start "$name" env BUILDKIT_STEP_LOG_MAX_SIZE=-1 BUILDKIT_STEP_LOG_MAX_SPEED=-1 \
        PATH="$KILN_BIN/runc-${RUNC_DEB[0]#*=}/usr/sbin:$PATH" \
        "$(buildkit_bin "$name")/buildkitd" --config "$dir/buildkitd.toml" --group "${SUDO_GID:-0}"
    [[ $name == buildkitd-floor ]] || ln -sf "$(buildkit_bin "$name")/buildctl" "$KILN_DEV_DIR/bin/"
    await "$name" 60 "$(buildkit_bin "$name")/buildctl" --addr "$(buildkit_address "$name")" debug workers
}

buildkitd_env() {
    if [[ $1 == buildkitd ]]; then
        printf 'export KILN_TEST_BUILDKIT=%q\n' "$(buildkit_address "$1")"
    else
        printf 'export KILN_TEST_BUILDKIT_FLOOR=%q\n' "$(buildkit_address "$1")"
    fi
}

buildkitd_down() {
    stop "$1"
    sweep "$1" "$(bridge_of "$1")"
    network_down "$1"
}

# The bridge is there already and carries the firewall rules (network.sh); the plugin adds a port per step,
# isolated: two steps side by side may be two tenants'.
buildkitd_cni() {
    cat <<-END
		{
		  "cniVersion": "1.0.0",
		  "name": "$(bridge_of "$1")",
		  "type": "bridge",
		  "bridge": "$(bridge_of "$1")",
		  "isDefaultGateway": true,
		  "portIsolation": true,
		  "ipam": {"type": "host-local", "dataDir": "$(state "$1")/cni", "ranges": [[{"subnet": "$(subnet_of "$1").0/24"}]]}
		}
	END
}

# What Kiln ships, with the paths of here (by flag it can't be done: --oci-cni-config-path has no effect in 0.33), and
# the development registries: the open one also stands in for docker.io, so that a base put into it
# as library/… or apache/… is found under its public name.
# More steps at once than cores: tests have many that only wait.
buildkitd_config() {
    sed -e "s|^root = .*|root = \"$(state "$1")/root\"|" \
        -e "s|^\( *address\) = .*|\1 = [\"$(buildkit_address "$1")\"]|" \
        -e "s|^\( *cniConfigPath\) = .*|\1 = \"$(state "$1")/cni.json\"|" \
        -e "s|^\( *cniBinaryPath\) = .*|\1 = \"$KILN_BIN/cni-plugins-$CNI_VERSION\"|" \
        -e "s|^\( *defaultCgroupParent\) = .*|\1 = \"/$(bridge_of "$1")\"|" \
        -e "s|^\( *max-parallelism\) = .*|\1 = 16|" \
        "$KILN_DEPLOY/buildkit/buildkitd.toml"
    cat <<-END

		[registry."docker.io"]
		  mirrors = ["127.0.0.1:$(port_of registry)"]
		[registry."127.0.0.1:$(port_of registry)"]
		  http = true
		[registry."127.0.0.1:$(port_of registry-auth)"]
		  http = true
	END
}
