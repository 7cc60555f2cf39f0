# Images for a node that reaches no registry: made of the pinned programs, kept as OCI archives, loaded by ctr.
# shellcheck shell=bash

# A registry that doesn't exist: an image that isn't loaded is an error, and never a stranger's.
IMAGES_AT=kiln.invalid
OCI=application/vnd.oci.image

pause_image() { printf '%s/pause:%s' "$IMAGES_AT" "$(pinned k8s.io/kubernetes)"; }
coredns_image() { printf '%s/coredns:%s' "$IMAGES_AT" "$(pinned github.com/coredns/coredns)"; }
busybox_image() { printf '%s/busybox:static' "$IMAGES_AT"; }
buildkit_image() { printf '%s/buildkit:%s' "$IMAGES_AT" "${1:-userns}"; }

images_fetch() {
    local path='"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "BUILDKIT_STEP_LOG_MAX_SIZE=-1", "BUILDKIT_STEP_LOG_MAX_SPEED=-1"'
    image pause "$(pause_image)" '"Entrypoint": ["/pause"], "User": "65535:65535"'
    image coredns "$(coredns_image)" '"Entrypoint": ["/coredns"], "WorkingDir": "/"'
    image busybox "$(busybox_image)" '"Cmd": ["sh"], "Env": ["PATH=/bin"]'
    # buildkitd takes itself for a rootless one by who USER is.
    image buildkit "$(buildkit_image)" "\"Entrypoint\": [\"buildkitd\"], \"Env\": [$path, \"HOME=/root\"]" \
        "$(buildkit_image rootless)" "\"Entrypoint\": [\"rootlesskit\", \"buildkitd\"], \"User\": \"1000:1000\", \"WorkingDir\": \"/home/user\",
            \"Env\": [$path, \"HOME=/home/user\", \"USER=user\", \"XDG_RUNTIME_DIR=/run/user/1000\", \"TMPDIR=/home/user/.local/tmp\"]"
}

# Images are kept by what makes them: this file, the pins, the programs.
archive_of() {
    local made_from
    made_from=$({ tools_bin; cat "$KILN_DEPLOY/dev/pins.sh" "$KILN_DEPLOY/dev/components/cluster/images.sh"; } | sha256sum | cut -c1-12)
    printf '%s/images/%s-%s.tar' "$KILN_CACHE" "$1" "$made_from"
}

# image <name> (<reference> <configuration>)…: images of one layer, which is what <name>_layer puts into a tar.
image() {
    local name=$1 archive work layer config manifest index=()
    archive=$(archive_of "$name")
    [[ -e $archive ]] && return
    say "making the image $2 (once)"
    mkdir -p "$KILN_CACHE/images"
    work=$(work_folder)
    mkdir -p "$work/oci/blobs/sha256"
    "${name}_layer" "$work/layer.tar"
    layer=$(blob "$work/oci" "$work/layer.tar")
    shift
    while (($# > 0)); do
        printf '{"architecture": "%s", "os": "linux", "config": {%s}, "rootfs": {"type": "layers", "diff_ids": ["sha256:%s"]}}' \
            "$(dpkg --print-architecture)" "$2" "$layer" >"$work/config"
        config=$(blob "$work/oci" "$work/config")
        printf '{"schemaVersion": 2, "mediaType": "%s.manifest.v1+json",
            "config": {"mediaType": "%s.config.v1+json", %s}, "layers": [{"mediaType": "%s.layer.v1.tar", %s}]}' \
            "$OCI" "$OCI" "$(descriptor "$work/oci" "$config")" "$OCI" "$(descriptor "$work/oci" "$layer")" >"$work/manifest"
        manifest=$(blob "$work/oci" "$work/manifest")
        index+=("$(printf '{"mediaType": "%s.manifest.v1+json", %s, "annotations": {"io.containerd.image.name": "%s"}}' \
            "$OCI" "$(descriptor "$work/oci" "$manifest")" "$1")")
        shift 2
    done
    printf '{"schemaVersion": 2, "manifests": [%s]}' "$(IFS=, && printf '%s' "${index[*]}")" >"$work/oci/index.json"
    printf '{"imageLayoutVersion": "1.0.0"}' >"$work/oci/oci-layout"
    tar --create --file "$work/archive" -C "$work/oci" .
    # Those of other versions are of no use any more.
    rm -f "$KILN_CACHE/images/$name"-*
    mv "$work/archive" "$archive"
    rm -rf "$work"
}

# blob <layout> <file>: moves it into the layout, prints its digest.
blob() {
    local digest
    digest=$(sha256sum <"$2" | cut -c1-64)
    mv "$2" "$1/blobs/sha256/$digest"
    printf '%s' "$digest"
}

# descriptor <layout> <digest>
descriptor() { printf '"digest": "sha256:%s", "size": %s' "$2" "$(stat --format=%s "$1/blobs/sha256/$2")"; }

# layer <tar> <program…>: a root that holds these programs alone.
layer() {
    local root
    root=$(work_folder)
    cp "${@:2}" "$root/"
    tar --create --file "$1" --owner 0 --group 0 --numeric-owner -C "$root" .
    rm -rf "$root"
}

pause_layer() {
    local work source
    work=$(work_folder)
    source=$(cd "$TOOLS" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)/build/pause/linux/pause.c
    cc -Os -Wall -Werror -static -s -DVERSION="$(pinned k8s.io/kubernetes)" -o "$work/pause" "$source"
    layer "$1" "$work/pause"
    rm -rf "$work"
}

coredns_layer() { layer "$1" "$(tools_bin)/coredns"; }

busybox_layer() { cp "$(tarball busybox)" "$1"; }

# For a pod whose root has a range of ids (hostUsers: false), and for a user of its own with one (rootless).
buildkit_layer() {
    local programs plugins
    buildkitd_fetch buildkitd
    go_programs rootlesskit github.com/rootless-containers/rootlesskit/v2 "$ROOTLESSKIT_VERSION" ./cmd/rootlesskit
    programs=("$(buildkit_bin buildkitd)"/{buildkitd,buildctl} "$(runc_bin)/runc" "$KILN_BIN/rootlesskit-$ROOTLESSKIT_VERSION/rootlesskit")
    # BuildKit's own bridge network wants these.
    plugins=("$KILN_BIN/cni-plugins-$CNI_VERSION"/* "$KILN_BIN/cni-meta-$CNI_VERSION/firewall")
    # newuidmap by a capability of the file and not as root: who maps is then the owner of the namespace.
    # shellcheck disable=SC2016  # mmdebstrap's shell sets $1, the root
    bootstrap "$1" ca-certificates,iptables,libcap2-bin,uidmap \
        --customize-hook='mkdir -p "$1"/opt/cni/bin "$1"/var/lib/buildkit' \
        --customize-hook="copy-in ${programs[*]} /usr/bin" \
        --customize-hook="copy-in ${plugins[*]} /opt/cni/bin" \
        --customize-hook='chmod u-s "$1"/usr/bin/newuidmap "$1"/usr/bin/newgidmap' \
        --customize-hook='chroot "$1" setcap cap_setuid+ep /usr/bin/newuidmap && chroot "$1" setcap cap_setgid+ep /usr/bin/newgidmap' \
        --customize-hook='echo user:x:1000:1000::/home/user:/bin/sh >>"$1"/etc/passwd && echo user:x:1000: >>"$1"/etc/group' \
        --customize-hook='echo user:100000:65536 | tee "$1"/etc/subuid >"$1"/etc/subgid' \
        --customize-hook='mkdir -p "$1"/home/user/.local/tmp "$1"/home/user/.local/share/buildkit "$1"/home/user/.config/buildkit' \
        --customize-hook='chown -R 1000:1000 "$1"/home/user'
}

# images_load: into the node's store.
images_load() {
    local name
    for name in pause coredns busybox buildkit; do
        inside "$(containerd_bin)/ctr" --address "$(containerd_socket)" --namespace k8s.io images import --local \
            "$(archive_of "$name")" >/dev/null
    done
}
