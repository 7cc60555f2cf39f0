#!/bin/sh
# Extends a base image by one requirements file, as root, inside the build step: extend.sh <kind> [built-in].
# The base's own /bin/extend does it where there is one, unless the second word says otherwise; else <kind>.sh does.
# The first line tells the gateway which of the two it is. Nothing that this step needs stays in the image.
set -eu
umask 022
# One stream, so that the last line is the last thing that happened.
exec 2>&1

recipe=1
kiln=${0%/*}
kind=$1
mode=${2:-auto}

# The gateway tells these apart from an installer's own failure by status and by the last line's first words.
unsupported() { echo "kiln: unsupported: $1"; exit "${2:-90}"; }
invalid() { echo "kiln: invalid: $1"; exit 92; }
has() { command -v "$1" >/dev/null; }

if [ "$mode" != built-in ] && [ -f /bin/extend ] && [ -x /bin/extend ]; then
    how=own
    echo 'kiln: extend with /bin/extend'
else
    how=built-in
    echo "kiln: extend with built-in recipe $kind $recipe"
fi

case $kind in
    python) requirements=requirements.txt ;;
    nodejs) requirements=package.json ;;
    php) requirements=composer.json ;;
    java) requirements=pom.xml ;;
    go) requirements=go.mod ;;
    ruby) requirements=Gemfile ;;
    dotnet) requirements=project.json ;;
    *) unsupported "there is no recipe for '$kind'; kinds are python, nodejs, php, java, go, ruby and dotnet." 91 ;;
esac
file=$kiln/requirements/$requirements

# What lies in /tmp belongs to the base; what a built-in recipe's tools add there (locks, JVM folders) goes with $work.
[ -d /tmp ] || mkdir -m 1777 /tmp
before=$(ls -A /tmp)
work=$(mktemp -d /tmp/kiln.XXXXXX)
leave() {
    status=$?
    cd /
    rm -rf "$work"
    if [ $how = own ]; then
        rm -f "/tmp/$requirements"
    else
        ls -A /tmp | while IFS= read -r entry; do
            printf '%s\n' "$before" | grep -qxF -e "$entry" || rm -rf "/tmp/${entry:?}"
        done
    fi
    exit $status
}
trap leave EXIT

. "$kiln/environment.sh"

if [ $how = own ]; then
    # The folder and name that such scripts expect; many delete the file themselves.
    cp "$file" "/tmp/$requirements"
    /bin/extend
elif grep -q '[^[:space:]]' "$file"; then
    export HOME="$work" TMPDIR="$work"
    # In a shell of its own, so that no recipe's variable is one of these.
    (. "$kiln/$kind.sh")
else
    # Clients send an empty file where they mean none.
    echo "kiln: $requirements is empty, nothing to install"
fi
