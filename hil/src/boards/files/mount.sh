# Mounts a sealed root as an early userspace would, then holds it until standard input ends. Run with `sh -euc`, as the first
# process of mount and process namespaces of its own: when it ends, the mounts and everything that runs on them go.
#
#   $0 name  $1 folder of the mount points  $2 composefs image  $3 object store  $4 folder that is /var
cd "$1"
mount -t tmpfs -o mode=0755 machine .
cd "$1"
mkdir seal objects root
mount -t erofs -o ro "$2" seal
mount --bind "$3" objects
# The object store is a data-only layer: files are found through the image's metadata, and the store's own names are not seen.
mount -t overlay -o ro,metacopy=on,redirect_dir=on,lowerdir=seal::objects sealed-root root
mount --bind "$4" root/var
mount -t proc -o nosuid,nodev,noexec proc root/proc
mount -t tmpfs -o nosuid,nodev tmp root/tmp
mount -t tmpfs -o nosuid,nodev,mode=0755 run root/run
mount -t tmpfs -o nosuid,noexec,mode=0755 dev root/dev
mknod -m 666 root/dev/null c 1 3
mknod -m 666 root/dev/zero c 1 5
mknod -m 666 root/dev/full c 1 7
mknod -m 666 root/dev/random c 1 8
mknod -m 666 root/dev/urandom c 1 9
mknod -m 666 root/dev/tty c 5 0
echo mounted
exec cat
