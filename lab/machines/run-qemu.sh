#!/bin/sh
# Runs QEMU from the lab's own file system, so that nothing of it is installed on this machine. Started in a new mount namespace.
# run-qemu.sh CGROUP LOWER SHARED QEMU-ARGUMENT...
#   CGROUP: folder of the control group that QEMU joins; LOWER: layers of the file system, topmost first; SHARED: folder with disks and
#   sockets, which has the same path in there.
set -eu
cgroup=$1 lower=$2 shared=$3
shift 3
echo 0 >"$cgroup/cgroup.procs"
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay lab-qemu -o "lowerdir=$lower,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
mkdir -p "/mnt/root$shared"
mount --rbind "$shared" "/mnt/root$shared"
exec chroot /mnt/root /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
