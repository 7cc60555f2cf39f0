# The step networks: a bridge per engine, NAT to the outside, and nothing of this machine within reach.
# shellcheck shell=bash

# The slot of this state folder in the address plan: a link in the cache that names the folder. Bridges carry its name
# as their alias, because another user's cache is another one and knows nothing of ours.
slot() {
    local slots=$KILN_CACHE/slots n owner
    mkdir -p "$slots"
    for n in {0..15}; do
        owner=$(readlink "$slots/$n" || true)
        if [[ $owner == "$KILN_DEV_DIR" ]]; then
            if slot_is_ours "$n"; then printf '%s' "$n"; return; fi
            rm -f "$slots/$n"
        elif [[ -n $owner && ! -d $owner ]]; then
            rm -f "$slots/$n"
        fi
    done
    for n in {0..15}; do
        # ln fails when the slot is somebody's: taking it is one step.
        if slot_is_ours "$n" && ln -s "$KILN_DEV_DIR" "$slots/$n" 2>/dev/null; then printf '%s' "$n"; return; fi
    done
    die "all 16 slots are taken: remove the links in $slots whose engines are down"
}

slot_is_ours() {
    local link
    for link in "/sys/class/net/kiln$1-"*; do
        if [[ -e $link && $(<"$link/ifalias") != "$KILN_DEV_DIR" ]]; then return 1; fi
    done
}

# One name for an engine's bridge and the cgroup of its steps.
bridge_of() { printf 'kiln%s-%s' "$(slot)" "${NETWORK_INDEX[$1]}"; }
subnet_of() { printf '%s.%s' "$NETWORK_PREFIX" "$(($(slot) * 16 + NETWORK_INDEX[$1]))"; }

# The resolvers that a step will be given; a local stub (systemd-resolved) hides the real ones behind it.
resolvers() {
    local file=/etc/resolv.conf
    if grep -q '^nameserver 127\.0\.0\.53' "$file" && [[ -r /run/systemd/resolve/resolv.conf ]]; then
        file=/run/systemd/resolve/resolv.conf
    fi
    awk '$1 == "nameserver" && $2 !~ /:/ && $2 !~ /^127\./ { print $2 }' "$file"
}

network_up() {
    local bridge subnet out in resolver protocol
    bridge=$(bridge_of "$1") subnet=$(subnet_of "$1")
    out=KILN-$bridge-out in=KILN-$bridge-in
    network_down "$1"
    ip link add "$bridge" type bridge
    ip link set "$bridge" alias "$KILN_DEV_DIR"
    # Without an address of the sixth kind nothing of the host answers on fe80::.
    [[ ! -e /proc/sys/net/ipv6 ]] || sysctl -qw "net.ipv6.conf.$bridge.disable_ipv6=1"
    ip address add "$subnet.1/24" dev "$bridge"
    ip link set "$bridge" up
    if [[ $(</proc/sys/net/ipv4/ip_forward) != 1 ]]; then
        say "setting net.ipv4.ip_forward=1: build steps reach the network through this machine"
        sysctl -qw net.ipv4.ip_forward=1
    fi

    iptables -w -N "$out"
    iptables -w -N "$in"
    for resolver in $(resolvers); do
        for protocol in udp tcp; do
            # Some clouds resolve at the metadata address: names, yes, and nothing else there.
            iptables -w -A "$out" -d "$resolver" -p "$protocol" --dport 53 -j ACCEPT
            iptables -w -A "$in" -d "$resolver" -p "$protocol" --dport 53 -j ACCEPT
        done
    done
    iptables -w -A "$out" -d 169.254.0.0/16 -j REJECT
    iptables -w -A "$out" -d "$NETWORK_PREFIX.0.0/16" -j REJECT
    # The same for two steps side by side on this bridge, which may be two tenants'.
    [[ -e /proc/sys/net/bridge ]] || modprobe br_netfilter 2>/dev/null || true
    printf 1 >"/sys/class/net/$bridge/bridge/nf_call_iptables"
    iptables -w -A "$out" -j ACCEPT
    # Answers to what this machine itself asked a container; else the machine's own addresses are closed.
    iptables -w -A "$in" -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    iptables -w -A "$in" -j REJECT
    iptables -w -I FORWARD -i "$bridge" -j "$out"
    iptables -w -I FORWARD -o "$bridge" -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    iptables -w -I INPUT -i "$bridge" -j "$in"
    iptables -w -t nat -A POSTROUTING -s "$subnet.0/24" ! -o "$bridge" -j MASQUERADE
}

network_down() {
    local bridge subnet chain
    bridge=$(bridge_of "$1") subnet=$(subnet_of "$1")
    while iptables -w -t nat -D POSTROUTING -s "$subnet.0/24" ! -o "$bridge" -j MASQUERADE; do :; done 2>/dev/null
    while iptables -w -D FORWARD -o "$bridge" -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT; do :; done 2>/dev/null
    while iptables -w -D FORWARD -i "$bridge" -j "KILN-$bridge-out"; do :; done 2>/dev/null
    while iptables -w -D INPUT -i "$bridge" -j "KILN-$bridge-in"; do :; done 2>/dev/null
    for chain in out in; do
        if iptables -w -F "KILN-$bridge-$chain" 2>/dev/null; then iptables -w -X "KILN-$bridge-$chain"; fi
    done
    if ip link show "$bridge" >/dev/null 2>&1; then ip link delete "$bridge"; fi
}
