# Tries each address as a build step would reach it, tells which it reached, and fails so that nothing is pushed.
# canary.sh <host:port…>; the host `gateway` is where the step's packets leave its network: often the engine's machine.
gateway() {
    hex=$(awk '$2 == "00000000" { print $3; exit }' /proc/net/route)
    [ "$hex" ] && printf '%d.%d.%d.%d' "0x${hex#??????}" "0x$(echo "$hex" | cut -c5-6)" "0x$(echo "$hex" | cut -c3-4)" "0x${hex%??????}"
}
reaches() {
    if command -v python3 >/dev/null; then
        python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()' "$1" "$2" 2>/dev/null
    elif command -v nc >/dev/null; then
        nc -w 3 "$1" "$2" </dev/null >/dev/null 2>&1
    else
        echo 'canary: no tool'
        exit 71
    fi
}
for address in "$@"; do
    host=${address%:*} port=${address##*:}
    [ "$host" = gateway ] && host=$(gateway)
    [ "$host" ] || continue
    if reaches "$host" "$port"; then echo "canary: reached $host:$port"; else echo "canary: blocked $host:$port"; fi
done
exit 70
