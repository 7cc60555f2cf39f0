# Starts, stops and waits for detached processes; every other file here builds on these.
# shellcheck shell=bash

KILN_CACHE=$HOME/.cache/kiln
KILN_BIN=$KILN_CACHE/bin
KILN_DEV_DIR=$(realpath -m "${KILN_DEV_DIR:-$KILN_CACHE/dev}")

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# The state folder of a component: pid, log, port, socket, data.
state() { printf '%s' "$KILN_DEV_DIR/$1"; }

# When a process began, in ticks since boot; fails when there is none. The command name before it may hold spaces.
started_at() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    read -ra stat <<<"${stat##*) }"
    # What follows the name begins at the third field: the state, and the start time as the twenty-second.
    [[ ${stat[0]} != Z ]] && printf '%s' "${stat[19]}"
}

# Prints the pid of a component that runs. The start time tells it from a stranger who got the same number.
pid_of() {
    local pid start
    read -r pid start 2>/dev/null <"$(state "$1")/pid" || return 1
    [[ -n $start && $(started_at "$pid") == "$start" ]] && printf '%s' "$pid"
}

# start <component> <command…>: runs it in a session of its own, with its own log and no descriptor of ours, so that
# neither a terminal's end nor a CI step that waits for its pipes to close is tied to it.
start() {
    local name=$1 dir pid
    dir=$(state "$name")
    shift
    mkdir -p "$dir"
    (
        cd "$dir" || exit
        exec </dev/null >"$dir/log" 2>&1
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            if ((fd > 2 && fd != 255)); then eval "exec $fd>&-"; fi
        done
        exec setsid "$@"
    ) &
    pid=$!
    printf '%s %s\n' "$pid" "$(started_at "$pid")" >"$dir/pid"
}

# await <component> <seconds> <command…>: polls until the command succeeds; the component's end, or the time's, is an error.
await() {
    local name=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! pid_of "$name" >/dev/null; then
            fail "$name" "ended while starting"
        elif ((SECONDS >= deadline)); then
            fail "$name" "not ready in time: $*"
        fi
        sleep 0.2
    done
    say "$name: up"
}

# fail <component> <why>: shows the log, and leaves nothing half up that the next `up` would take for a success.
fail() {
    say "--- the end of $(state "$1")/log"
    tail -n 40 "$(state "$1")/log" >&2 || true
    stop "$1"
    die "$1: $2"
}

# stop <component>: asks, and insists after 20 s.
stop() {
    local name=$1 pid deadline=$((SECONDS + 20))
    if pid=$(pid_of "$name"); then
        kill -TERM "$pid"
        while pid_of "$name" >/dev/null; do
            if ((SECONDS >= deadline)); then kill -KILL "$pid" 2>/dev/null || true; fi
            sleep 0.1
        done
        say "$name: down"
    fi
    rm -f "$(state "$name")/pid"
}

# sweep <component> <cgroup>: what a killed engine leaves: its own children, steps and containers, mounts.
sweep() {
    local dir pid group mount deadline
    dir=$(state "$1")
    [[ -d $dir ]] || return 0
    for pid in /proc/[0-9]*; do
        # Ours is what runs a program from our cache and names this folder.
        if [[ $(readlink "$pid/exe") == "$KILN_BIN"/* ]] && tr '\0' ' ' <"$pid/cmdline" | grep -qF -- "$dir/"; then
            kill -KILL "${pid##*/}" || true
        fi
    done 2>/dev/null
    # Deepest first. What a tenant's step started is known by its cgroup alone.
    find /sys/fs/cgroup -depth -type d \( -path "*/$2" -o -path "*/$2/*" \) 2>/dev/null | while read -r group; do
        for pid in $(<"$group/cgroup.procs"); do kill -KILL "$pid" || true; done
        # Who has been killed is there until the kernel is done with them.
        deadline=$((SECONDS + 10))
        until rmdir "$group" || ((SECONDS >= deadline)); do sleep 0.1; done
    done 2>/dev/null
    awk -v dir="$dir/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r mount; do
        umount "$mount" 2>/dev/null || umount --lazy "$mount" || true
    done
}

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The port of a component: chosen once, below the range from which the kernel hands out ports, and remembered.
# Chosen again only when a stranger sits on it.
port_of() {
    local name=$1 file port
    file=$(state "$name")/port
    mkdir -p "${file%/*}"
    port=$(cat "$file" 2>/dev/null || true)
    if [[ -z $port ]] || { ! pid_of "$name" >/dev/null && port_taken "$port"; }; then
        port=$((20000 + SRANDOM % 10000))
        while port_taken "$port"; do port=$((20000 + SRANDOM % 10000)); done
        printf '%s\n' "$port" >"$file"
    fi
    printf '%s' "$port"
}
