# A Docker Engine for swarms and compose projects: it writes firewall rules and publishes ports as any does, and so it has a
# network namespace of its own, which leads nowhere. What it runs comes from images that are loaded into it.
# shellcheck shell=bash

swarm_socket() { printf '%s/docker.sock' "$(state swarm)"; }
swarm_namespace() { bridge_of swarm; }

swarm_fetch() {
    docker_fetch "$1"
    deb_programs docker-compose docker-compose "${COMPOSE_DEB[@]}"
    # Its images' parts.
    registry_fetch registry
    buildkitd_fetch buildkitd
    deb_programs rootlesskit rootlesskit "${ROOTLESSKIT_DEB[@]}"
    deb_programs uidmap uidmap "${UIDMAP_DEB[@]}"
    deb_programs busybox busybox-static "${BUSYBOX_DEB[@]}"
}

swarm_up() {
    local dir docker containerd namespace image
    dir=$(state swarm) namespace=$(swarm_namespace)
    docker=$KILN_BIN/docker-${DOCKER_DEB[0]#*=}/usr
    containerd=$KILN_BIN/containerd-${CONTAINERD_DEB[0]#*=}/usr
    mkdir -p "$dir"
    ip netns add "$namespace"
    ip -netns "$namespace" link set lo up
    swarm_config >"$dir/daemon.json"
    # Not by `ip netns exec`: it mounts a /sys without control groups.
    start swarm env PATH="$docker/bin:$docker/sbin:$docker/libexec/docker:$containerd/bin:$KILN_BIN/runc-${RUNC_DEB[0]#*=}/usr/sbin:$PATH" \
        nsenter --net="/run/netns/$namespace" "$docker/sbin/dockerd" --config-file "$dir/daemon.json"
    ln -sf "$(docker_cli)" "$KILN_BIN/docker-compose-${COMPOSE_DEB[0]#*=}/usr/libexec/docker/cli-plugins/docker-compose" "$KILN_DEV_DIR/bin/"
    await swarm 60 "$(docker_cli)" --host "unix://$(swarm_socket)" version
    for image in registry buildkit docker busybox; do
        DOCKER_HOST=unix://$(swarm_socket) "$KILN_DEPLOY/dev/image" "$image" "kiln-test/$image" || fail swarm "$image can't be loaded"
    done
}

swarm_down() {
    stop swarm
    sweep swarm "$(bridge_of swarm)"
    # A pid file that a killed daemon left names a number that may be somebody else's by now.
    rm -f "$(state swarm)"/{docker.pid,exec/containerd/containerd.pid}
    if [[ -e /run/netns/$(swarm_namespace) ]]; then ip netns delete "$(swarm_namespace)"; fi
}

swarm_env() {
    printf 'export KILN_TEST_SWARM=unix://%q\n' "$(swarm_socket)"
    printf 'export KILN_TEST_SWARM_NAMESPACE=%q\n' "/run/netns/$(swarm_namespace)"
}

swarm_config() {
    local dir
    dir=$(state swarm)
    cat <<-END
		{
		  "storage-driver": "overlay2",
		  "features": {"containerd-snapshotter": false},
		  "data-root": "$dir/root",
		  "exec-root": "$dir/exec",
		  "pidfile": "$dir/docker.pid",
		  "hosts": ["unix://$(swarm_socket)"],
		  "group": "${SUDO_GID:-0}",
		  "exec-opts": ["native.cgroupdriver=cgroupfs"],
		  "cgroup-parent": "/$(bridge_of swarm)",
		  "insecure-registries": ["127.0.0.0/8"],
		  "shutdown-timeout": 5
		}
	END
}
