#!/usr/bin/env bash
# Two hosts on one machine: network namespaces with addresses and names of their own, mpiexec over ssh,
# messages over TCP. mpi4py programs and `tpsim train` must give what they give on one host.
#
#   uv run tests/hosts/two_hosts.sh       (as root; or with tpsim's environment active)
#
# Exit code 77: something is missing, it says what, and nothing was tried. All that is set up lives in
# namespaces of this script's own, and ends with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin

main() {
    look_for_what_is_needed
    scratch=$(mktemp -d)
    export scratch
    trap 'rm -rf "$scratch"' EXIT
    # The new namespaces are the host "one". With its first process all others end, those of "two" as well.
    "${unshare[@]}" --kill-child --mount-proc tests/hosts/two_hosts.sh --inside
}

unshare=(unshare --net --uts --mount --pid --fork)

look_for_what_is_needed() {
    [ "$(id -u)" = 0 ] || missing "root"
    for command in ip:iproute2 ssh:openssh-client sshd:openssh-server; do
        [ "$(command -v "${command%:*}")" ] || missing "${command%:*}: apt-get install ${command#*:}"
    done
    [ "$(command -v mpiexec)" ] || missing "mpiexec: run it with uv, or activate tpsim's environment"
    "${unshare[@]}" ip link add cable type veth 2>/dev/null || missing "the right to make network namespaces"
}

missing() {
    echo "two hosts: skipped; it needs $1" >&2
    exit 77
}

inside() {
    connect
    let_in
    export UCX_TLS=tcp,self HYDRA_LAUNCHER_EXTRA_ARGS="-q -F $scratch/ssh_config" PYTHONUNBUFFERED=

    on one,two -c 'from mpi4py import MPI; print(MPI.COMM_WORLD.rank, "on", MPI.Get_processor_name())' >"$scratch/two"
    printf '0 on one\n1 on two\n' >"$scratch/one"
    same "$scratch/one" "$scratch/two" "each rank is on a host of its own"

    for program in halo_exchange sample_sort work_queue; do
        for hosts in one two; do on "one,$hosts" "tests/programs/$program.py" >"$scratch/$hosts"; done
        same "$scratch/one" "$scratch/two" "$program prints what it prints on one host"
    done

    train=(-m tpsim train --steps 3 --batch 4 --seq 32 --ranks 2 --out)
    python "${train[@]}" "$scratch/virtual" >"$scratch/log"
    on one,two "${train[@]}" "$scratch/real" >"$scratch/log"
    for file in step-000003/rank-0000{0,1}.safetensors; do
        same "$scratch/virtual/$file" "$scratch/real/$file" "tpsim train: the bits of virtual ranks in $file"
    done
    echo "two hosts: $(($(cat /sys/class/net/cable/statistics/tx_bytes) / 1000000)) MB went through the cable"
}

on() { # HOSTS ARGUMENTS...: Python on two ranks
    mpiexec -launcher ssh -hosts "$1" -n 2 python "${@:2}" | sort
}

same() { # FILE FILE MEANING
    [ -s "$1" ]
    cmp "$1" "$2"
    echo "two hosts: $3"
}

connect() { # "one", where this runs, and "two", where only sshd runs, by a cable
    printf '127.0.0.1 localhost\n10.66.0.1 one\n10.66.0.2 two\n' >"$scratch/hosts"
    mount --bind "$scratch/hosts" /etc/hosts
    mkfifo "$scratch/connected"
    unshare --net --uts --mount bash -c '
        mount -t sysfs sysfs /sys  # where UCX looks for the devices of this network
        hostname two
        read -r _ <"$scratch/connected"
        exec "$(command -v sshd)" -D -f "$scratch/sshd_config"' &
    until [ "$(nsenter --uts --target $! hostname)" = two ]; do sleep 0.05; done
    mount -t sysfs sysfs /sys
    hostname one
    ip link add cable type veth peer name cable netns $!
    bring_up 10.66.0.1 ""
    bring_up 10.66.0.2 "nsenter --net --mount --target $!"
    until grep -q up /sys/class/net/cable/operstate; do sleep 0.05; done
}

bring_up() { # ADDRESS PREFIX
    # shellcheck disable=SC2086  (a prefix is no word, or several)
    $2 sh -c "ip link set lo up; ip addr add $1/24 dev cable; ip link set cable up"
}

let_in() { # with keys made for this once
    for key in key host_key; do ssh-keygen -q -t ed25519 -N '' -f "$scratch/$key"; done
    mkdir -p /run/sshd
    printf '%s\n' "ListenAddress 10.66.0.2" "HostKey $scratch/host_key" "AuthorizedKeysFile $scratch/key.pub" \
        "PermitRootLogin prohibit-password" "StrictModes no" "UsePAM no" "PidFile none" >"$scratch/sshd_config"
    printf '%s\n' "IdentityFile $scratch/key" "StrictHostKeyChecking no" "UserKnownHostsFile /dev/null" \
        >"$scratch/ssh_config"
    echo >"$scratch/connected"
    for _ in {1..50}; do
        ssh -q -F "$scratch/ssh_config" two grep -q up /sys/class/net/cable/operstate && return
        sleep 0.1
    done
    ssh -v -F "$scratch/ssh_config" two true # says what is wrong
}

if [ "${1-}" = --inside ]; then inside; else main; fi
