# Docker twice, the same programs: with the graph driver's store and with containerd's. Each has its own containerd,
# data, socket and bridge, and none touches a Docker that is already here. What containerd and Docker can't be told to put
# elsewhere is shared and harmless: empty folders /opt/containerd and /run/docker/plugins, sockets of shims by unique names
# in /run/containerd/s.
# shellcheck shell=bash

docker_socket() { printf '%s/docker.sock' "$(state "$1")"; }
docker_cli() { printf '%s' "$KILN_BIN/docker-cli-${DOCKER_CLI_DEB[0]#*=}/usr/bin/docker"; }

docker_fetch() {
    deb_programs docker docker.io "${DOCKER_DEB[@]}"
    deb_programs docker-cli docker-cli "${DOCKER_CLI_DEB[@]}"
    deb_programs containerd containerd "${CONTAINERD_DEB[@]}"
    deb_programs runc runc "${RUNC_DEB[@]}"
}

docker_up() {
    local name=$1 dir docker containerd
    dir=$(state "$name")
    docker=$KILN_BIN/docker-${DOCKER_DEB[0]#*=}/usr
    containerd=$KILN_BIN/containerd-${CONTAINERD_DEB[0]#*=}/usr
    mkdir -p "$dir"
    network_up "$name"
    docker_config "$name" >"$dir/daemon.json"
    # A pid file that a killed daemon left names a number that may be somebody else's by now.
    rm -f "$dir/docker.pid" "$dir/exec/containerd/containerd.pid"
    start "$name" env BUILDKIT_STEP_LOG_MAX_SIZE=-1 BUILDKIT_STEP_LOG_MAX_SPEED=-1 \
        PATH="$docker/bin:$docker/sbin:$docker/libexec/docker:$containerd/bin:$KILN_BIN/runc-${RUNC_DEB[0]#*=}/usr/sbin:$PATH" \
        "$docker/sbin/dockerd" --config-file "$dir/daemon.json"
    ln -sf "$(docker_cli)" "$KILN_DEV_DIR/bin/"
    await "$name" 60 "$(docker_cli)" --host "unix://$(docker_socket "$name")" version
}

docker_down() {
    stop "$1"
    sweep "$1" "$(bridge_of "$1")"
    network_down "$1"
}

docker_env() {
    if [[ $1 == docker ]]; then
        printf 'export KILN_TEST_DOCKER=unix://%q\n' "$(docker_socket "$1")"
    else
        printf 'export KILN_TEST_DOCKER_CONTAINERD=unix://%q\n' "$(docker_socket "$1")"
    fi
}

# The bridge and its firewall rules are ours (network.sh): two daemons that both wrote the chains named DOCKER would
# undo each other's, and those of a third that is already here. Ports of containers are reached by Docker's userland proxy.
docker_config() {
    local dir store='"storage-driver": "overlay2", "features": {"containerd-snapshotter": false}'
    dir=$(state "$1")
    [[ $1 == docker ]] || store='"features": {"containerd-snapshotter": true}'
    cat <<-END
		{
		  $store,
		  "data-root": "$dir/root",
		  "exec-root": "$dir/exec",
		  "pidfile": "$dir/docker.pid",
		  "hosts": ["unix://$(docker_socket "$1")"],
		  "group": "${SUDO_GID:-0}",
		  "bridge": "$(bridge_of "$1")",
		  "exec-opts": ["native.cgroupdriver=cgroupfs"],
		  "cgroup-parent": "/$(bridge_of "$1")",
		  "iptables": false,
		  "ip6tables": false,
		  "ip-forward": false,
		  "ip-masq": false,
		  "registry-mirrors": ["http://127.0.0.1:$(port_of registry)"],
		  "insecure-registries": ["127.0.0.0/8"],
		  "builder": {"gc": {"enabled": true, "defaultKeepStorage": "20GB"}},
		  "shutdown-timeout": 5
		}
	END
}
