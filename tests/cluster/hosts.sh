#!/usr/bin/env bash
# Hosts on one machine, for tests of what happens between machines: each has its own name, address,
# processes and mounts, and a cable (a veth pair) to a common switch.
#
#   hosts.sh start FOLDER COUNT            head (10.99.0.100) and host1 (10.99.0.1), host2, …
#   hosts.sh on FOLDER HOST COMMAND...     run a command on a host
#   hosts.sh cut|plug FOLDER HOST          pull the cable of a host, or plug it in again
#   hosts.sh lose FOLDER HOST PERCENT      drop a share of the packets that a host gets and sends
#   hosts.sh kill FOLDER HOST              end all processes of a host at once
#   hosts.sh stop FOLDER
#
# Needs root. FOLDER gets a file for each host. All of it lives in namespaces that end with their
# first process: neither the network nor the configuration of the system is touched.
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
if (($# < 2)); then usage >&2; exit 2; fi
action="$1" folder="$(realpath -m "$2")"
shift 2

first_process() { cat "$folder/$1.pid"; }
inside() { nsenter --target "$(first_process "$1")" --net --uts --mount --pid --wd="$PWD" "${@:2}"; }

# With this system's process ids, by which a cable finds its other end.
at_switch() { nsenter --target "$(first_process head)" --net ip "$@"; }

# The first process of a host. Once it is gone, the kernel ends all others of the host.
boot() {
  local name="$1"
  unshare --net --uts --mount --pid --fork --mount-proc --kill-child \
    bash -c '
      hostname "$1"
      mount --bind "$2/hosts" /etc/hosts
      ip link set lo up
      touch "$2/$1.up"
      # Children that lost their parent are waited for.
      trap "exit 0" TERM
      while :; do sleep 3600 & wait $!; done
    ' boot "$name" "$folder" < /dev/null > /dev/null 2>&1 &
  local outer=$! waited=0
  until [[ -e "$folder/$name.up" ]]; do
    kill -0 "$outer" 2> /dev/null && ((waited++ < 200)) || { echo "$name does not start" >&2; exit 1; }
    sleep 0.05
  done
  rm "$folder/$name.up"
  pgrep -P "$outer" | head -n 1 > "$folder/$name.pid"
}

plug_in() {
  local name="$1" address="$2"
  at_switch link add "to-$name" type veth peer name eth0 netns "$(first_process "$name")"
  at_switch link set "to-$name" master switch up
  inside "$name" ip address add "$address/24" dev eth0
  inside "$name" ip link set eth0 up
}

case "$action" in
  start)
    count="${1:?how many hosts}"
    mkdir -p "$folder"
    { printf '127.0.0.1 localhost\n10.99.0.100 head\n'
      for number in $(seq "$count"); do printf '10.99.0.%d host%d\n' "$number" "$number"; done
    } > "$folder/hosts"
    boot head
    at_switch link add switch type bridge
    at_switch address add 10.99.0.100/24 dev switch
    at_switch link set switch up
    for number in $(seq "$count"); do
      boot "host$number"
      plug_in "host$number" "10.99.0.$number"
    done
    ;;
  on) inside "$@" ;;
  cut) at_switch link set "to-$1" down ;;
  plug) at_switch link set "to-$1" up ;;
  lose)
    # What tc's netem would do; not every kernel has that.
    share="$(awk "BEGIN { print $2 / 100 }")"
    inside "$1" iptables-legacy -A INPUT -i eth0 -m statistic --mode random --probability "$share" -j DROP
    inside "$1" iptables-legacy -A OUTPUT -o eth0 -m statistic --mode random --probability "$share" -j DROP
    ;;
  kill) kill -KILL "$(first_process "$1")" ;;
  stop)
    for file in "$folder"/*.pid; do
      [[ -e "$file" ]] || continue
      kill -KILL "$(cat "$file")" 2> /dev/null || true
      rm -f "$file"
    done
    rm -f "$folder/hosts"
    ;;
  *) usage >&2; exit 2 ;;
esac
