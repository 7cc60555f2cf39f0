# Go: into the module cache that the runtime's compile script names, so that an action with this go.mod compiles offline.
PATH=$PATH:/usr/local/go/bin
has go || unsupported 'the base has no go command on its path; use a Go runtime as the base.'

# One level down: Go passes over a go.mod that lies in TMPDIR itself.
mkdir "$work/module"
cp "$file" "$work/module/go.mod"
cd "$work/module"
# A newer toolchain would be fetched into the cache, and the base's own one would compile the action all the same.
export GOPATH=/home/go GOTOOLCHAIN=local GOFLAGS='-mod=mod -modcacherw' GO111MODULE=on GOWORK=off
go mod edit -json >/dev/null || invalid "$(go env GOVERSION) of the base can't read go.mod; mend the file, or use a newer base."
mkdir -p /home/go/pkg/mod
go mod download

# The action compiles as the base's user, whoever that is, and takes locks and adds modules here.
chmod -R a+rwX /home/go
