//! What a test types between a guide's own commands.

/// Puts the base of the test build into the registry.
pub(crate) const BASE: &str = "
docker tag kiln-test/busybox 127.0.0.1:5000/library/busybox
docker push --quiet 127.0.0.1:5000/library/busybox
";

/// Without the key, and without the password.
pub(crate) const REFUSED: &str = r#"
curl --silent --output /dev/null --write-out '%{http_code}\n' http://localhost:8088/build --data-binary "@$work.tar"
curl --silent --output /dev/null --write-out '%{http_code}\n' --request POST http://localhost:5000/v2/foo/bar/blobs/uploads/
"#;

/// What Kiln's and the registry's containers are kept from, a line each.
pub(crate) const CONFINED: &str = r#"
for image in "${IMAGE:-kiln}:$TAG" "$REGISTRY_IMAGE"; do
    container=$(docker ps --quiet --filter ancestor="$image")
    docker inspect --format '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.Memory}}' "$container"
done
"#;

/// What [`CONFINED`] prints.
pub(crate) const CONFINEMENT: &str = "true [ALL] 1073741824\ntrue [ALL] 536870912\n";

/// The addresses that somebody listens on at the guides' ports, as the machine sees them.
pub(crate) const LISTENS: &str = "
ss --no-header --listening --tcp --numeric 'sport = :5000 or sport = :8088' | awk '{ print $4 }' | sort
";

/// Nothing of a guide is left.
pub(crate) const LEFT: &str = "
docker ps --all --quiet
docker volume ls --quiet
docker network ls --format '{{.Name}}' | grep -vx -e bridge -e host -e none -e docker_gwbridge || true
";

/// Builds an image whose step looks for Kiln wherever it may be: by name, at every address that containers have in
/// `networks`, and at the ports that the machine publishes. It finds the registry, so it can find things.
pub(crate) fn step(networks: &str) -> String {
    STEP.replace("NETWORKS", networks)
}

const STEP: &str = r#"
addresses=$(docker network inspect NETWORKS --format '{{range .Containers}}{{println .IPv4Address}}{{end}}' | sed -n 's|/.*||p' | sort -u)
kiln=$(docker ps --quiet --filter ancestor="${IMAGE:-kiln}:$TAG")
step=$(mktemp -d)
mkdir "$step/context"
echo '{"Ref": "registry.local:5000/foo/step:latest"}' >"$step/config"
cat >"$step/context/look" <<'END'
answers() { nc -w 3 "$1" "$2" </dev/null >/dev/null 2>&1; }
registry=$(nslookup registry.local | awk '$1 == "Address:" && $2 !~ /^127/ { print $2 }')
answers "$registry" 5000 || { echo "the registry at $registry doesn't answer"; exit 1; }
for name in kiln tasks.kiln kiln-kiln-1; do
    if nslookup "$name" | grep -A 1 "^Name:"; then exit 1; fi
done
for address in "$@"; do
    if answers "$address" 8080; then echo "$address:8080 answers"; exit 1; fi
done
for address in $(ip route | awk '$2 == "via" { print $3 }'); do
    for port in 5000 8088; do
        if answers "$address" "$port"; then echo "$address:$port answers"; exit 1; fi
    done
done
echo looked at "$@"
END
cat >"$step/context/Dockerfile" <<END
FROM $BASE
COPY look /
RUN sh /look $(echo $addresses)
END
tar --create --file "$step.tar" --directory "$step" .
test -n "$addresses"
# Who is in Kiln's own network reaches it.
docker run --rm --network "container:$kiln" kiln-test/busybox nc -w 3 127.0.0.1 8080 </dev/null
curl --silent --show-error --fail-with-body http://localhost:8088/build --data-binary "@$step.tar"
"#;
