# Gets the programs, each once and under its pinned version: built from Go modules, or unpacked from Debian packages.
# shellcheck shell=bash

# An interrupted build leaves nothing: whatever ends this script takes its work folders along.
trap 'rm -rf "$KILN_CACHE/build.$$".*' EXIT
work_folder() { mktemp -d "$KILN_CACHE/build.$$.XXXXXX"; }

# go_programs <name> <module> <version> <packages…>: into bin/<name>-<version>.
# `go install module@version` refuses modules with replace or exclude lines, so the module
# is built where its own go.mod rules (read-only: releases carry parts of a vendor folder that must not count).
# GO_STAMP, if set, is a string variable of the program with its value. GO_TAGS, GO_LINK and CGO_ENABLED are the toolchain's.
go_programs() {
    local name=$1 module=$2 version=$3 dest work source
    dest=$KILN_BIN/$name-$version
    shift 3
    [[ -d $dest ]] && return
    command -v go >/dev/null || die "Go is needed to build $module@$version: install Go 1.21 or newer (https://go.dev/dl/), it fetches the rest"
    say "building $module@$version (once)"
    work=$(work_folder)
    source=$(cd "$work" && go mod download -json "$module@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p') || true
    [[ -n $source ]] || die "the Go module proxy doesn't give $module@$version (go mod download $module@$version says why)"
    cp -r --no-preserve=mode "$source" "$work/src"
    (cd "$work/src" && CGO_ENABLED=${CGO_ENABLED:-0} nice go build -mod=readonly -trimpath -buildvcs=false -tags="${GO_TAGS:-}" \
        -ldflags="-s -w ${GO_STAMP:+-X $GO_STAMP} ${GO_LINK:-}" -o "$work/bin/" "$@")
    mkdir -p "$KILN_BIN"
    mv "$work/bin" "$dest"
    rm -rf "$work"
}

# deb_programs <name> <package> <suite=version…>: unpacks the first that there is into bin/<name>-<first version>.
deb_programs() {
    local name=$1 package=$2 dest choice work got
    shift 2
    dest=$KILN_BIN/$name-${1#*=}
    [[ -d $dest ]] && return
    command -v apt-get >/dev/null || die "$package comes from Debian's packages, and there is no apt-get here"
    work=$(work_folder)
    for choice in "$@"; do
        got=$package${choice#*=}
        [[ -n ${choice#*=} ]] && got=$package=${choice#*=}
        if (cd "$work" && debian "${choice%%=*}" download "$got") >"$work/log" 2>&1; then
            [[ $choice == "$1" ]] || say "$package ${1#*=} has left the mirrors; taking what ${choice%%=*} has"
            dpkg -x "$work"/*.deb "$work/root"
            mkdir -p "$KILN_BIN"
            mv "$work/root" "$dest"
            say "fetched $(basename "$work"/*.deb .deb) from Debian ${choice%%=*}"
            rm -rf "$work"
            return
        fi
    done
    tail -n 5 "$work/log" >&2
    die "no $package to be had from: $*"
}

# debian <suite> <apt-get arguments…>: apt with lists of its own, so that the system's sources stay as they are.
debian() {
    local apt=$KILN_CACHE/apt/$1 options
    mkdir -p "$apt/lists/partial" "$apt/archives/partial"
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian %s main\n' "$1" >"$apt/sources.list"
    options=(-q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists"
        -o Dir::Cache="$apt" -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)
    shift
    # Lists of the last hour serve; older ones may name files that are gone.
    if [[ -z $(find "$apt/lists" -maxdepth 1 -name '*_InRelease' -mmin -60) ]]; then
        apt-get "${options[@]}" update
        touch "$apt"/lists/*_InRelease
    fi
    apt-get "${options[@]}" "$@"
}

# fetched <name> <pin>: $KILN_DEV_BIN/<name> leads to what the caller's fetch() puts into the folder that it is given, once for each pin.
fetched() {
    local home=$KILN_BIN/$1-$2
    mkdir -p "$KILN_BIN" "$KILN_DEV_DIR/bin"
    # Two at a time would only do it twice.
    exec 9>"$KILN_CACHE/lock"
    flock 9
    [[ -d $home ]] || fetch "$home"
    ln -sfn "$home" "$KILN_DEV_DIR/bin/$1"
}

# pip_packages <folder> <requirements>: unpacks packages, each pinned by its hash, into a folder.
pip_packages() {
    python3 -m pip --version >/dev/null 2>&1 || die "Python with pip is needed for what $2 names (Debian: apt-get install python3-pip)"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
        --target "$1" --requirement "$2" >&2
}
