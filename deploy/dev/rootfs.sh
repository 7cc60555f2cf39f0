# Roots of images, made of Debian packages and kept as tarballs.
# shellcheck shell=bash

# Raise it when the making of a base changes: the tarballs are kept under this name.
BASE_VERSION=1
BASE_SUITE=bookworm
BASES=$KILN_CACHE/bases

# bootstrap <tar> <packages>: Debian's essential packages and these, without documentation, as the slim images are.
bootstrap() {
    local options=()
    [[ -z $2 ]] || options+=(--include="$2")
    command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: run deploy/dev/prerequisites"
    mmdebstrap --quiet --variant=minbase "${options[@]}" \
        --aptopt='Acquire::Languages "none"' \
        --dpkgopt=path-exclude='/usr/share/doc/*' --dpkgopt=path-include='/usr/share/doc/*/copyright' \
        --dpkgopt=path-exclude='/usr/share/man/*' --dpkgopt=path-exclude='/usr/share/locale/*' \
        "${@:3}" "$BASE_SUITE" "$1" \
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $BASE_SUITE main"
}

make_debian() { bootstrap "$1" ca-certificates; }

# As in the official image, pip installs for the one python3 there is, and nobody forbids it.
make_python() {
    # shellcheck disable=SC2016  # mmdebstrap's shell sets $1, the root
    bootstrap "$1" ca-certificates,python3,python3-pip,python3-venv \
        --customize-hook='rm "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
        --customize-hook='ln -s /usr/bin/python3 "$1"/usr/local/bin/python'
}

make_busybox() {
    local root applet
    deb_programs busybox busybox-static "${BUSYBOX_DEB[@]}"
    root=$(work_folder)
    mkdir -p "$root"/{bin,etc,root,tmp}
    chmod 1777 "$root/tmp"
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\n' >"$root/etc/group"
    cp "$KILN_BIN/busybox-${BUSYBOX_DEB[0]#*=}/bin/busybox" "$root/bin/"
    for applet in $("$root/bin/busybox" --list); do
        [[ $applet == busybox ]] || ln -s busybox "$root/bin/$applet"
    done
    tar --create --file "$1" --owner 0 --group 0 --numeric-owner -C "$root" .
    rm -rf "$root"
}

make_empty() {
    local root
    root=$(work_folder)
    printf 'This image has no shell.\n' >"$root/static"
    tar --create --file "$1" --owner 0 --group 0 --numeric-owner -C "$root" static
    rm -rf "$root"
}

make_frontend() {
    local root
    go_programs dockerfile-frontend github.com/moby/buildkit "$BUILDKIT_VERSION" ./frontend/dockerfile/cmd/dockerfile-frontend
    root=$(work_folder)
    cp "$KILN_BIN/dockerfile-frontend-$BUILDKIT_VERSION/dockerfile-frontend" "$root/"
    tar --create --file "$1" --owner 0 --group 0 --numeric-owner -C "$root" dockerfile-frontend
    rm -rf "$root"
}

# tarball <kind>: makes it once, prints where it is.
tarball() {
    local file=$BASES/$1-$BASE_SUITE-$BASE_VERSION.tar
    [[ $1 != frontend ]] || file=$BASES/$1-$BUILDKIT_VERSION.tar
    mkdir -p "$BASES"
    (
        flock 9
        if [[ ! -e $file ]]; then
            say "making the $1 base (once)"
            # The ending tells mmdebstrap what to write.
            "make_$1" "$BASES/new.tar" >&2
            mv "$BASES/new.tar" "$file"
        fi
    ) 9>"$BASES/lock"
    printf '%s' "$file"
}
