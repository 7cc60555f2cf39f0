# The node: a network and a mount namespace behind a bridge of their own, and a cgroup, by which all that runs there is found.
# shellcheck shell=bash

# By fixed names the kubelet and containerd look for these; on the node others are mounted over them.
NODE_FOLDERS=(/var/lib/kubelet /var/lib/cni)

node_address() { printf '%s.2' "$(subnet_of cluster)"; }

# inside <command…>: on the node.
inside() { nsenter --target "$(pid_of cluster/node)" --mount --net -- "$@"; }

# start_inside <part> <command…>
start_inside() {
    local part=$1
    shift
    (
        # Whatever it starts is born into this cgroup.
        printf '%s\n' "$BASHPID" >"$(node_cgroup)/cgroup.procs"
        start "cluster/$part" nsenter --target "$(pid_of cluster/node)" --mount --net -- "$@"
    )
}

node_up() {
    local name=cluster/node file
    network_up cluster
    cgroups_up
    start "$name" unshare --mount --net --propagation private sleep infinity
    await "$name" 10 apart
    node_network
    node_registries
    node_mounts
}

apart() { [[ $(readlink "/proc/$(pid_of cluster/node)/ns/net") != "$(readlink /proc/self/ns/net)" ]] && inside true; }

node_down() {
    local bridge hook
    bridge=$(bridge_of cluster)
    for hook in PREROUTING OUTPUT; do
        while iptables -w -t nat -D "$hook" -d "$(subnet_of cluster).1" -j "KILN-$bridge-dnat"; do :; done 2>/dev/null
    done
    if iptables -w -t nat -F "KILN-$bridge-dnat" 2>/dev/null; then iptables -w -t nat -X "KILN-$bridge-dnat"; fi
    # Routes and the node's end go with it.
    network_down cluster
    # A folder that is removed here is unmounted everywhere: not while another cluster has its own there.
    compgen -G "/sys/class/net/kiln*-${NETWORK_INDEX[cluster]}" >/dev/null || rmdir "${NODE_FOLDERS[@]}" 2>/dev/null || true
}

# Its own address is on the bridge; pods and services are behind it, also for this machine.
node_network() {
    local bridge
    bridge=$(bridge_of cluster)
    ip link add "$bridge-n" type veth peer name eth0 netns "$(pid_of cluster/node)"
    ip link set "$bridge-n" alias "$KILN_DEV_DIR"
    ip link set "$bridge-n" master "$bridge" up
    inside ip link set lo up
    inside ip address add "$(node_address)/24" dev eth0
    inside ip link set eth0 up
    inside ip route add default via "$(subnet_of cluster).1"
    inside sysctl -qw net.ipv4.ip_forward=1
    # Rules count between pods on one bridge too.
    inside sysctl -qw net.bridge.bridge-nf-call-iptables=1
    ip route add "$(subnet_of cluster-pods).0/24" via "$(node_address)"
    ip route add "$(subnet_of cluster-services).0/24" via "$(node_address)"
}

# What the development registries are called here and on the node: they listen on this machine's loopback.
registry_inside() { printf '%s.1:%s' "$(subnet_of cluster)" "$(port_of "$1")"; }

# The one hole in the bridge's firewall.
node_registries() {
    local bridge chain name hook
    bridge=$(bridge_of cluster)
    chain=KILN-$bridge-dnat
    iptables -w -t nat -N "$chain"
    for hook in PREROUTING OUTPUT; do iptables -w -t nat -A "$hook" -d "$(subnet_of cluster).1" -j "$chain"; done
    sysctl -qw "net.ipv4.conf.$bridge.route_localnet=1"
    for name in registry registry-auth; do
        iptables -w -t nat -A "$chain" -p tcp --dport "$(port_of "$name")" -j DNAT --to-destination "127.0.0.1:$(port_of "$name")"
        iptables -w -I "KILN-$bridge-in" -d 127.0.0.1 -p tcp --dport "$(port_of "$name")" -j ACCEPT
    done
}

# What the components can't be told to put elsewhere goes to the state folder, or away with the namespace.
node_mounts() {
    local dir mount resolv file
    dir=$(state cluster)
    mkdir -p "$dir"/{addresses,containerd,log,pods,tunables} "${NODE_FOLDERS[@]}"
    # Copies that would keep others' containers and namespaces alive.
    # shellcheck disable=SC2016  # awk's own fields
    inside awk '$5 != "/" && / - (nsfs|overlay) / { print $5 }' /proc/self/mountinfo | tac | while read -r mount; do inside umount --lazy "$mount"; done
    inside mount --bind "$dir/pods" /var/lib/kubelet
    inside mount --bind "$dir/addresses" /var/lib/cni
    # Pods' volumes are mounted below it, and some are to be seen by pods as they come.
    inside mount --make-rshared /
    inside mount --bind "$dir/log" /var/log
    resolv=$(realpath -m /etc/resolv.conf)
    resolvers | sed 's/^/nameserver /' >"$dir/resolv.conf"
    inside mount -t tmpfs -o mode=755 tmpfs /run
    # By a way that everybody may go: the root of a pod with ids of its own is nobody here.
    inside mkdir -p /run/kiln
    inside mount --bind "$dir/containerd" /run/kiln
    inside mkdir -p "${resolv%/*}"
    inside touch "$resolv"
    inside mount --bind "$dir/resolv.conf" "$resolv"
    # The kernel gives a user namespace a fresh /proc only if one is in sight that nothing is mounted over.
    mkdir -p "$dir/proc"
    inside mount -t proc proc "$dir/proc"
    # The kubelet sets these for the whole machine unless they are so already.
    for file in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
        kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
        printf '%s\n' "${file#*=}" >"$dir/tunables/$(basename "${file%=*}")"
        inside mount --bind "$dir/tunables/$(basename "${file%=*}")" "/proc/sys/${file%=*}"
    done
}

# The roots of all hierarchies: one with version 2, one per controller before it.
cgroup_roots() { if [[ -e /sys/fs/cgroup/cgroup.procs ]]; then echo /sys/fs/cgroup; else dirname /sys/fs/cgroup/*/cgroup.procs; fi; }

# Processes of the node itself, in one hierarchy: enough to find them, and the others stay the caller's.
node_cgroup() {
    local root=/sys/fs/cgroup/pids
    [[ -d $root ]] || root=$(cgroup_roots | head -n 1)
    printf '%s/%s/node' "$root" "$(bridge_of cluster)"
}

cgroups_up() {
    local root group controller
    for root in $(cgroup_roots); do
        group=$root/$(bridge_of cluster)
        mkdir -p "$group"
        # With version 2 a controller is handed down level by level; with version 1 CPUs and memory nodes are. One that
        # can't be is named by the kubelet if it is needed.
        if [[ $root == /sys/fs/cgroup ]]; then
            for controller in $(<"$root/cgroup.controllers"); do
                printf '+%s' "$controller" >"$root/cgroup.subtree_control" || continue
                printf '+%s' "$controller" >"$group/cgroup.subtree_control"
            done
        fi
        for controller in cpuset.cpus cpuset.mems; do
            if [[ -e $group/cgroup.clone_children && -e $group/$controller ]]; then cat "$root/$controller" >"$group/$controller"; fi
        done
    done
    mkdir -p "$(node_cgroup)"
}
