#!/bin/sh
# Becomes PID 1 of a lab host. Started in new pid, mount, uts and ipc namespaces and in the host's network namespace.
# Environment: LAB_HOST (name), LAB_CGROUP (folder of the host's control group), LAB_DIR (the host's folder), LAB_LOWER (lower layers),
# LAB_PROCESSORS (those that the host may use).
set -eu

if [ "${1:-}" != in-cgroup ]; then
  echo 0 >"$LAB_CGROUP/cgroup.procs"
  # The machine's own /proc is still mounted here, so this is the process id as the machine sees it.
  read -r pid rest </proc/self/stat
  # The control group namespace must be made inside the group: its root is then the host's own group.
  # Only the namespaces had to be made on a certain processor.
  exec taskset --cpu-list "$LAB_PROCESSORS" unshare --cgroup /bin/sh "$0" in-cgroup "$pid"
fi

hostname "$LAB_HOST"
root="$LAB_DIR/root"
# "volatile" leaves out flushing to disk, which package installation does a lot. A killed host loses nothing by it, for the machine
# keeps running; the marker that tells of a machine's crash is removed so that the same file system boots again.
rm -rf "$LAB_DIR/work/work/incompat/volatile"
mount -t overlay lab-host -o "lowerdir=$LAB_LOWER,upperdir=$LAB_DIR/upper,workdir=$LAB_DIR/work,volatile" "$root"
cd "$root"
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp
mount -t tmpfs -o mode=0755,nosuid tmpfs dev

mkdir dev/pts dev/net
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
umask 000
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 644 dev/kmsg c 1 11
mknod -m 666 dev/tty c 5 0
mknod -m 666 dev/net/tun c 10 200
mknod -m 666 dev/fuse c 10 229
mknod -m 660 dev/loop-control c 10 237
# Loop devices are the machine's own and shared by all hosts; the kernel gives each the number it asks for.
loop=0
while [ "$loop" -lt 64 ]; do
  mknod -m 660 "dev/loop$loop" b 7 "$loop"
  loop=$((loop + 1))
done
umask 022

pivot_root . mnt
echo "$2" >"/mnt$LAB_DIR/pid"
exec chroot . /usr/bin/env -i container=lxc PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /bin/sh -c 'cd / && umount -l /mnt && exec /sbin/init'
