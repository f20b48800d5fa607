#!/usr/bin/env bash
# A machine, as process 1 of namespaces of its own: machine.sh NAME NUMBER. Started by world.py alone.
set -euo pipefail
image=/tmp/image
echo waits
hostname "$1"
until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip link set lo up
ip address add "10.200.0.$2/24" dev eth0
ip link set eth0 up
ip route add default via 10.200.0.1 # leads nowhere; Ray takes its address from it
mkdir -p /home/ubuntu && mount -t tmpfs tmpfs /home
mkdir -p /home/ubuntu/.ssh /run/image && mount --bind "$image" /run/image
mount -t tmpfs tmpfs /tmp && mkdir "$image" && mount --bind /run/image "$image"
mount -t tmpfs tmpfs /dev/shm
cp "$image/$1.keys" /home/ubuntu/.ssh/authorized_keys
cp "$image/bashrc" /home/ubuntu/.bashrc
ln -s "$(readlink "$image/venv")" /home/ubuntu/venv
mount -t tmpfs tmpfs /run && mkdir /run/sshd
/usr/sbin/sshd -h "$image/host_key" -o UsePAM=no -o StrictModes=no -o PidFile=none -o PermitRootLogin=prohibit-password
echo up
sleep infinity
