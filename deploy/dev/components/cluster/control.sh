# The control plane: keys and kubeconfigs by kubeadm, then etcd, the API server, the controllers and the scheduler.
# shellcheck shell=bash

etcd_up() {
    local dir
    dir=$(state cluster/etcd)
    # Loopback of a namespace that holds nothing but this node: no keys. And nothing here has to survive a power cut.
    start_inside etcd "$(tools_bin)/etcd" --name kiln --data-dir "$dir/data" --unsafe-no-fsync --log-level warn \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster kiln=http://127.0.0.1:2380
    await cluster/etcd 30 inside curl -fsS --noproxy '*' http://127.0.0.1:2379/readyz
}

apiserver_up() {
    local pki
    pki=$(pki)
    keys_up
    start_inside apiserver "$(tools_bin)/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
        --advertise-address="$(node_address)" --secure-port=6443 --service-cluster-ip-range="$(subnet_of cluster-services).0/24" \
        --allow-privileged=true --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
        --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
        --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
        --kubelet-preferred-address-types=InternalIP \
        --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
        --requestheader-client-ca-file="$pki/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
        --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --proxy-client-cert-file="$pki/front-proxy-client.crt" --proxy-client-key-file="$pki/front-proxy-client.key"
    ln -sf "$(tools_bin)/kubectl" "$KILN_DEV_DIR/bin/"
    await cluster/apiserver 90 kubectl_ get --raw /readyz
    bindings | kubectl_ apply -f - >/dev/null
}

controllers_up() {
    local pki
    pki=$(pki)
    start_inside controllers "$(tools_bin)/kube-controller-manager" --leader-elect=false --bind-address=127.0.0.1 \
        --kubeconfig="$pki/controller-manager.conf" --authentication-kubeconfig="$pki/controller-manager.conf" \
        --authorization-kubeconfig="$pki/controller-manager.conf" --use-service-account-credentials=true \
        --root-ca-file="$pki/ca.crt" --service-account-private-key-file="$pki/sa.key" \
        --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key"
    await cluster/controllers 60 inside curl -fsS --insecure --noproxy '*' https://127.0.0.1:10257/healthz
}

scheduler_up() {
    local pki
    pki=$(pki)
    start_inside scheduler "$(tools_bin)/kube-scheduler" --leader-elect=false --bind-address=127.0.0.1 \
        --kubeconfig="$pki/scheduler.conf" --authentication-kubeconfig="$pki/scheduler.conf" --authorization-kubeconfig="$pki/scheduler.conf"
    await cluster/scheduler 60 inside curl -fsS --insecure --noproxy '*' https://127.0.0.1:10259/healthz
}

pki() { printf '%s/pki' "$CLUSTER"; }
# Of the cluster that is brought up here, whatever KUBECONFIG says.
kubectl_() { "$(tools_bin)/kubectl" --kubeconfig "$CLUSTER_KUBECONFIG" --request-timeout=30s "$@"; }
kubeadm_() { "$(tools_bin)/kubeadm" "$@" --config "$CLUSTER/kubeadm.yaml"; }

# Once for a cluster's life.
keys_up() {
    local pki name
    pki=$(pki)
    [[ ! -e $CLUSTER_KUBECONFIG ]] || return 0
    kubeadm_config >"$CLUSTER/kubeadm.yaml"
    {
        for name in ca apiserver apiserver-kubelet-client front-proxy-ca front-proxy-client sa; do
            kubeadm_ init phase certs "$name"
        done
        for name in super-admin kubelet controller-manager scheduler; do
            kubeadm_ init phase kubeconfig "$name" --kubeconfig-dir "$pki"
        done
    } >"$CLUSTER/kubeadm.log" 2>&1 || { cat "$CLUSTER/kubeadm.log" >&2; die "kubeadm made no keys"; }
    kubeadm_ kubeconfig user --client-name system:kube-proxy >"$pki/proxy.conf" 2>>"$CLUSTER/kubeadm.log"
    kubeadm_ kubeconfig user --client-name kiln:network-policies >"$pki/policies.conf" 2>>"$CLUSTER/kubeadm.log"
    install -m 600 -o "${SUDO_UID:-0}" "$pki/super-admin.conf" "$CLUSTER_KUBECONFIG"
}

# What two of the keys' owners may: the API server asks the kubelet for logs, and policies are read to be enforced.
bindings() {
    cat <<-END
		apiVersion: rbac.authorization.k8s.io/v1
		kind: ClusterRoleBinding
		metadata: {name: "kiln:kubelet-api"}
		roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:kubelet-api-admin"}
		subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: kube-apiserver-kubelet-client}]
		---
		apiVersion: rbac.authorization.k8s.io/v1
		kind: ClusterRoleBinding
		metadata: {name: "kiln:network-policies"}
		roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
		subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "kiln:network-policies"}]
	END
}

kubeadm_config() {
    cat <<-END
		apiVersion: kubeadm.k8s.io/v1beta4
		kind: InitConfiguration
		localAPIEndpoint: {advertiseAddress: $(node_address), bindPort: 6443}
		nodeRegistration: {name: kiln, criSocket: "unix://$(containerd_socket)"}
		---
		apiVersion: kubeadm.k8s.io/v1beta4
		kind: ClusterConfiguration
		kubernetesVersion: $(pinned k8s.io/kubernetes)
		certificatesDir: $(pki)
		encryptionAlgorithm: ECDSA-P256
		controlPlaneEndpoint: $(node_address):6443
		networking: {podSubnet: $(subnet_of cluster-pods).0/24, serviceSubnet: $(subnet_of cluster-services).0/24, dnsDomain: cluster.local}
		dns: {imageRepository: $IMAGES_AT, imageTag: $(pinned github.com/coredns/coredns)}
	END
}

# The end of the waiting: a node that takes pods, and names that resolve.
cluster_ready() {
    # Once: a second time it would have CoreDNS' configuration migrated.
    if ! kubectl_ --namespace kube-system get deployment coredns >/dev/null 2>&1; then
        kubeadm_ init phase addon coredns --kubeconfig "$CLUSTER_KUBECONFIG" >>"$CLUSTER/kubeadm.log" 2>&1 ||
            { tail -n 20 "$CLUSTER/kubeadm.log" >&2; die "kubeadm deployed no CoreDNS"; }
    fi
    kubectl_ wait --for=condition=Ready node/kiln --timeout=60s >/dev/null || unready
    kubectl_ --namespace kube-system rollout status deployment/coredns --timeout=90s >/dev/null || unready
    say "cluster: up; eval \"\$(deploy/dev/cluster env)\""
}

unready() {
    kubectl_ get nodes,pods --all-namespaces -o wide >&2 || true
    kubectl_ get events --all-namespaces --sort-by=.lastTimestamp 2>/dev/null | tail -n 20 >&2 || true
    die "the cluster isn't ready in time; logs are in $CLUSTER"
}
