# What the development engines are made of: every version, and the address plan of the step networks.
# shellcheck shell=bash disable=SC2034  # read by the files that source this one

# Go programs, built from the module as released with its own go.sum.
# 0.33.1 is the newest release whose dependencies the public module proxy still served when this was written.
BUILDKIT_VERSION=v0.33.1
# The floor that `probe` accepts.
BUILDKIT_FLOOR_VERSION=v0.12.5
CNI_VERSION=v1.9.1
# The cluster's: what comes from the module k8s.io/kubernetes, etcd and CoreDNS are pinned by cluster-tools/go.mod.
# runc from 1.2 on maps the ids of a pod's volumes (hostUsers: false); Debian 12's doesn't.
RUNC_VERSION=v1.4.3
ROOTLESSKIT_VERSION=v2.3.6

# Debian packages, unpacked beside the system and never installed: a daemon's package would start a service, and
# Debian's containerd would push out the one of another vendor's Docker. Each is a list of suite=version, tried in
# order; an empty version takes what the suite has, for the day when the exact one has left the mirrors.
REGISTRY_DEB=(bookworm=2.8.2+ds1-1 bookworm=)
# Newer suites' runc wants glibc 2.38, Debian 12 has 2.36.
RUNC_DEB=(bookworm=1.1.5+ds1-1+deb12u1 bookworm=)
# Debian 12's own Docker (20.10, BuildKit 0.8) drops the source policy. Sid's needs glibc 2.34 alone and starts in seconds,
# where building moby from source takes minutes of both cores.
DOCKER_DEB=(sid=28.5.2+dfsg4-5 trixie=)
DOCKER_CLI_DEB=(sid=28.5.2+dfsg4-5 trixie=)
CONTAINERD_DEB=(sid=2.1.9+ds1-5 trixie=)
# Headers and the static library: runc without it takes no seccomp profile.
LIBSECCOMP_DEB=(bookworm=2.5.4-1+deb12u1 bookworm=)
BUSYBOX_DEB=(bookworm=1:1.35.0-4+deb12u1+b1 bookworm=)
# Sid's needs a glibc no newer than Docker's does.
COMPOSE_DEB=(sid=2.40.3-3 trixie=)
# Of a rootless buildkitd.
ROOTLESSKIT_DEB=(sid=2.0.2-2+b11 bookworm=)
UIDMAP_DEB=(bookworm=1:4.13+dfsg1-1+deb12u2 bookworm=)

# What the image of Kiln is made of. A program runs with a glibc that is as new as the one it was linked with, or newer.
LIBC_DEB=(trixie=2.41-12+deb13u4 trixie=)
LIBGCC_DEB=(trixie=14.2.0-19 trixie=)
CA_CERTIFICATES_DEB=(trixie=20250419 trixie=)

# Step networks: 10.213.<16 × slot + index>.0/24 on bridge kiln<slot>-<index>. A slot belongs to one state folder, so
# that two checkouts can have their engines up side by side; 10.213/16 is in nobody's defaults (Docker 172.17–31 and
# 192.168, k3s 10.42–43, kubeadm 10.96 and 10.244, podman 10.88, BuildKit 10.10).
NETWORK_PREFIX=10.213
declare -A NETWORK_INDEX=([buildkitd]=0 [buildkitd-floor]=1 [docker]=2 [docker-containerd]=3 [cluster]=4 [cluster-pods]=5 [cluster-services]=6 [swarm]=7)
