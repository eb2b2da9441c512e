# shellcheck shell=bash
# Fresh Debian machines: chroots in which a script starts from nothing. Source it after common.sh; then
#
#   machine_needs                         ends the script if this machine cannot make others, and says why
#   machine_run SUITE IN OUT COMMAND...   makes a machine, runs the command there and removes it again
#
# The machine has Debian's minimal system, nothing of this one, and what is committed of this tree in
# /src/backfill. It finds the files of directory IN in /in; what it leaves in /out is copied to
# directory OUT. Both may be ''. The command runs as root, in the tree, with the network.
#
# Everything that the command starts or mounts is in namespaces that end with it, however it ends. So
# what is left is a directory in which nothing of this machine is mounted, and that is checked before
# it is removed.

# The mirror to take packages from: BACKFILL_DEBIAN_MIRROR, or the one that this machine's apt uses.
machine_mirror() {
    local mirror=${BACKFILL_DEBIAN_MIRROR:-}
    [[ -n $mirror ]] || mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -n 1) || true
    printf '%s\n' "$mirror"
}

machine_needs() {
    local program
    ((EUID == 0)) || die "making fresh machines needs root: debootstrap, mount and chroot are root's"
    for program in debootstrap unshare git; do
        command -v "$program" >/dev/null || die "making fresh machines needs the program $program (Debian: package ${program/unshare/util-linux})"
    done
    unshare --mount --pid --ipc --uts --fork true 2>/dev/null ||
        die "making fresh machines needs the right to make namespaces and to mount, which root does not have here (in a container: run it privileged)"
    [[ -n $(machine_mirror) ]] ||
        die "this machine's apt does not know a mirror of Debian's: run apt-get update, or set BACKFILL_DEBIAN_MIRROR to the address of one"
}

# Remove a machine's directory, unless something is mounted in it.
machine_remove() {
    local dir=$1 mounted
    [[ -d $dir ]] || return 0
    while read -r _ mounted _; do
        mounted=$(printf '%b' "$mounted") # a space is \040 there
        if [[ $mounted == "$dir" || $mounted == "$dir"/* ]]; then
            warn "$mounted is mounted: $dir is left in place; unmount it and remove that directory"
            return 2
        fi
    done </proc/self/mounts
    rm -rf --one-file-system -- "$dir"
}

machine_dir=''
machine_pid=''
machine_stop() {
    local tries status
    if [[ -n $machine_pid ]]; then
        kill -KILL "$machine_pid" 2>/dev/null || true
        wait "$machine_pid" 2>/dev/null || true
        machine_pid=''
    fi
    [[ -n $machine_dir ]] || return 0
    # What has just been killed may make files until it is gone.
    for ((tries = 0; tries < 30; tries++)); do
        status=0
        machine_remove "$machine_dir" 2>"$machine_dir.log" || status=$?
        ((status == 1)) || break
        sleep 1
    done
    cat "$machine_dir.log" >&2
    rm -f "$machine_dir.log"
    machine_dir=''
}

# Sets `machine_archive`: what machines of a suite are unpacked from. It is made anew when it is a week old.
machine_find_archive() {
    local suite=$1
    machine_archive=$BACKFILL_CACHE/machines/$suite-$(dpkg --print-architecture).tar
    [[ -z $(find "$machine_archive" -mtime -7 2>/dev/null) ]] || return 0
    say "making a minimal system of $suite"
    mkdir -p "${machine_archive%/*}"
    machine_dir=$(mktemp -d "$TMPDIR/backfill-machine.XXXXXX")
    # It mounts, too.
    setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child debootstrap --variant=minbase "$suite" "$machine_dir/system" "$(machine_mirror)" \
        >"$machine_dir/log" 2>&1 </dev/null &
    machine_pid=$!
    if ! wait "$machine_pid"; then
        tail -n 20 "$machine_dir/log" >&2
        die "debootstrap could not make a system of $suite from $(machine_mirror)"
    fi
    machine_pid=''
    rm -f "$machine_dir/system"/var/cache/apt/archives/*.deb
    tar -C "$machine_dir/system" --numeric-owner -cf "$machine_archive.new" .
    mv "$machine_archive.new" "$machine_archive"
    machine_stop
}

# What the machine needs of this one: names of hosts, how apt reaches the mirror, the tree, and the authorities whose
# certificates an operator has had it trust, because a proxy has one of those. The package ca-certificates reads them.
machine_prepare() {
    local dir=$1 in=$2 option value bundle
    cp -L /etc/resolv.conf "$dir/etc/resolv.conf"
    printf '127.0.0.1 localhost machine\n' >"$dir/etc/hosts"
    for option in Acquire::http::Proxy Acquire::https::Proxy Acquire::Check-Valid-Until; do
        value=''
        eval "$(apt-config shell value "$option")"
        [[ -z $value ]] || printf '%s "%s";\n' "$option" "$value" >>"$dir/etc/apt/apt.conf.d/90machine"
    done
    mkdir -p "$dir/src" "$dir/in" "$dir/out" "$dir/usr/local/share/ca-certificates"
    find /usr/local/share/ca-certificates -name '*.crt' -exec cp -t "$dir/usr/local/share/ca-certificates" {} + 2>/dev/null || true
    [[ -z $in ]] || cp -r "$in/." "$dir/in"
    # A clone would refuse a tree that belongs to another user; a bundle has no owner.
    bundle=$dir/src/bundle
    git -c safe.directory='*' -C "$BACKFILL_ROOT" bundle create -q "$bundle" HEAD
    git -c advice.detachedHead=false clone -q "$bundle" "$dir/src/backfill" 2>/dev/null
    rm -f "$bundle"
}

# Runs inside the new namespaces.
# shellcheck disable=SC2016 # expanded there
machine_inside='
    set -e
    dir=$1
    shift
    hostname machine
    mount -t proc proc "$dir/proc"
    mkdir -p "$dir/dev/shm" "$dir/dev/pts"
    mount -t tmpfs tmpfs "$dir/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$dir/dev/pts"
    exec chroot "$dir" /usr/bin/env -i -C /src/backfill HOME=/root TERM=dumb LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"'

machine_run() {
    local suite=$1 in=$2 out=$3 status=0
    shift 3
    trap machine_stop EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    machine_find_archive "$suite"
    machine_dir=$(mktemp -d "$TMPDIR/backfill-machine.XXXXXX")
    chmod 755 "$machine_dir"
    tar -C "$machine_dir" --numeric-owner -xf "$machine_archive"
    machine_prepare "$machine_dir" "$in"
    # In the background, so that a signal ends this script at once. All in there ends with this script, and with unshare.
    setpriv --pdeathsig KILL unshare --mount --pid --ipc --uts --fork --kill-child bash -c "$machine_inside" machine "$machine_dir" "$@" </dev/null &
    machine_pid=$!
    wait "$machine_pid" || status=$?
    machine_pid=''
    [[ -z $out ]] || { mkdir -p "$out" && cp -r "$machine_dir/out/." "$out"; }
    machine_stop
    return "$status"
}
