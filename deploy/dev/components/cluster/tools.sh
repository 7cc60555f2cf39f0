# The programs of the cluster: compiled once from pinned modules, or unpacked from Debian packages.
# shellcheck shell=bash

TOOLS=$KILN_DEPLOY/dev/cluster-tools

# What a line of go.mod pins.
pinned() { awk -v module="$1" '$1 == module && $2 ~ /^v/ { print $2; exit }' "$TOOLS/go.mod"; }

tools_bin() {
    printf '%s/cluster-tools-%s' "$KILN_BIN" "$(cd "$TOOLS" && find . -name 'go.*' -o -name '*.go' | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-12)"
}
runc_bin() { printf '%s/runc-static-%s' "$KILN_BIN" "$RUNC_VERSION"; }
containerd_bin() { printf '%s/containerd-%s/usr/bin' "$KILN_BIN" "${CONTAINERD_DEB[0]#*=}"; }

tools_fetch() {
    kubernetes_programs
    runc_program
    deb_programs containerd containerd "${CONTAINERD_DEB[@]}"
    go_programs cni-plugins github.com/containernetworking/plugins "$CNI_VERSION" \
        ./plugins/main/bridge ./plugins/main/loopback ./plugins/ipam/host-local
    go_programs cni-meta github.com/containernetworking/plugins "$CNI_VERSION" ./plugins/meta/portmap ./plugins/meta/firewall
}

kubernetes_programs() {
    local dest work version stamp
    dest=$(tools_bin)
    [[ -d $dest ]] && return
    command -v go >/dev/null || die "Go is needed to build Kubernetes: install Go 1.21 or newer (https://go.dev/dl/), it fetches the rest"
    version=$(pinned k8s.io/kubernetes)
    say "building Kubernetes $version, etcd and CoreDNS (once, some minutes)"
    stamp="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/client-go/pkg/version.gitVersion=$version"
    stamp+=" -X k8s.io/component-base/version.gitTreeState=archive -X k8s.io/client-go/pkg/version.gitTreeState=archive"
    work=$(work_folder)
    mkdir "$work/bin"
    (cd "$TOOLS" && CGO_ENABLED=0 nice go build -mod=readonly -trimpath -buildvcs=false -ldflags="-s -w $stamp" -o "$work/bin/" tool ./coredns ./network-policies)
    # What a module's main package at a version is called: after the folder above it.
    mv "$work/bin/server" "$work/bin/etcd"
    mkdir -p "$KILN_BIN"
    mv "$work/bin" "$dest"
    rm -rf "$work"
}

# Linked statically: the same program runs pods here and build steps inside of one.
runc_program() {
    local seccomp=$KILN_BIN/libseccomp-${LIBSECCOMP_DEB[0]#*=}/usr
    [[ -d $(runc_bin) ]] && return
    command -v cc >/dev/null || die "a C compiler is needed to build runc (Debian: apt-get install gcc libc6-dev)"
    deb_programs libseccomp libseccomp-dev "${LIBSECCOMP_DEB[@]}"
    # Where it lies is said here, and needs no pkg-config.
    PKG_CONFIG=true CGO_ENABLED=1 CGO_CFLAGS="-O2 -I$seccomp/include" CGO_LDFLAGS="-L$(dirname "$(find "$seccomp/lib" -name libseccomp.a)") -lseccomp" \
        GO_TAGS='seccomp netgo osusergo urfave_cli_no_docs' GO_LINK='-linkmode external -extldflags -static' \
        go_programs runc-static github.com/opencontainers/runc "$RUNC_VERSION" .
}
