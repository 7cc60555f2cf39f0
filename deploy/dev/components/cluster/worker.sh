# What makes the node run pods: containerd, the kubelet, kube-proxy, and who enforces network policies.
# shellcheck shell=bash

containerd_socket() { printf '%s/containerd.sock' "$(state cluster/containerd)"; }

containerd_up() {
    local dir name
    dir=$(state cluster/containerd)
    mkdir -p "$dir"/{cni/bin,cni/conf}
    ln -sf "$KILN_BIN/cni-plugins-$CNI_VERSION"/* "$KILN_BIN/cni-meta-$CNI_VERSION"/* "$dir/cni/bin/"
    pods_cni >"$dir/cni/conf/10-kiln.conflist"
    containerd_config "$dir" >"$dir/config.toml"
    for name in registry registry-auth; do
        mkdir -p "$dir/registries/$(registry_inside "$name")"
        printf 'server = "http://%s"\n' "$(registry_inside "$name")" >"$dir/registries/$(registry_inside "$name")/hosts.toml"
    done
    start_inside containerd env PATH="$(containerd_bin):$PATH" "$(containerd_bin)/containerd" --config "$dir/config.toml"
    await cluster/containerd 30 inside "$(containerd_bin)/ctr" --address "$(containerd_socket)" version
    images_load
}

kubelet_up() {
    local dir
    dir=$(state cluster/kubelet)
    mkdir -p "$dir"
    kubelet_config "$dir" >"$dir/config.yaml"
    start_inside kubelet "$(tools_bin)/kubelet" --config "$dir/config.yaml" --kubeconfig "$(pki)/kubelet.conf" \
        --hostname-override kiln --node-ip "$(node_address)"
    await cluster/kubelet 60 inside curl -fsS --noproxy '*' http://127.0.0.1:10248/healthz
}

proxy_up() {
    local dir
    dir=$(state cluster/proxy)
    mkdir -p "$dir"
    # Limits of connection tracking belong to the whole machine.
    cat >"$dir/config.yaml" <<-END
		apiVersion: kubeproxy.config.k8s.io/v1alpha1
		kind: KubeProxyConfiguration
		mode: iptables
		hostnameOverride: kiln
		clusterCIDR: $(subnet_of cluster-pods).0/24
		clientConnection: {kubeconfig: $(pki)/proxy.conf}
		conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
	END
    start_inside proxy "$(tools_bin)/kube-proxy" --config "$dir/config.yaml"
    await cluster/proxy 60 inside curl -fsS --noproxy '*' http://127.0.0.1:10256/healthz
}

policies_up() {
    local hook
    inside iptables -w -N KILN-POLICY 2>/dev/null || true
    # From pod to pod or out, and from a pod to the node itself.
    for hook in FORWARD INPUT; do
        inside iptables -w -C "$hook" -j KILN-POLICY 2>/dev/null || inside iptables -w -I "$hook" -j KILN-POLICY
    done
    start_inside policies "$(tools_bin)/network-policies" --kubeconfig "$(pki)/policies.conf"
    await cluster/policies 30 inside iptables -w -C KILN-POLICY -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
}

# /run/kiln is the state folder's (node.sh).
containerd_config() {
    cat <<-END
		version = 3
		root = "/run/kiln/root"
		state = "/run/kiln/state"
		[grpc]
		  address = "$(containerd_socket)"
		[plugins."io.containerd.internal.v1.opt"]
		  path = "$1/opt"
		[plugins."io.containerd.nri.v1.nri"]
		  disable = true
		[plugins."io.containerd.cri.v1.images".pinned_images]
		  sandbox = "$(pause_image)"
		[plugins."io.containerd.cri.v1.images".registry]
		  config_path = "$1/registries"
		[plugins."io.containerd.cri.v1.runtime"]
		  # Root without CAP_SYS_RESOURCE, as in many containers, can't lower it.
		  restrict_oom_score_adj = true
		[plugins."io.containerd.cri.v1.runtime".cni]
		  bin_dirs = ["$1/cni/bin"]
		  conf_dir = "$1/cni/conf"
		[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
		  runtime_type = "io.containerd.runc.v2"
		  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
		    BinaryName = "$(runc_bin)/runc"
		    SystemdCgroup = false
	END
}

pods_cni() {
    cat <<-END
		{
		  "cniVersion": "1.0.0",
		  "name": "kiln",
		  "plugins": [
		    {
		      "type": "bridge", "bridge": "pods", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
		      "ipam": {"type": "host-local", "dataDir": "$(state cluster/containerd)/cni/addresses", "ranges": [[{"subnet": "$(subnet_of cluster-pods).0/24"}]]}
		    },
		    {"type": "portmap", "capabilities": {"portMappings": true}}
		  ]
		}
	END
}

# A disk that is nearly full is this machine's business: no pod is evicted for it.
kubelet_config() {
    cat <<-END
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		containerRuntimeEndpoint: unix://$(containerd_socket)
		cgroupDriver: cgroupfs
		cgroupRoot: /$(bridge_of cluster)
		failCgroupV1: false
		failSwapOn: false
		authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $(pki)/ca.crt}}
		authorization: {mode: Webhook}
		clusterDomain: cluster.local
		clusterDNS: ["$(subnet_of cluster-services).10"]
		resolvConf: $CLUSTER/resolv.conf
		volumePluginDir: $1/plugins
		imageGCHighThresholdPercent: 100
		evictionHard: {nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
	END
}
