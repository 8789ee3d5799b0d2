# shellcheck shell=bash
# Sets up the system packages and the virtual environment of the checkout. The other scripts source this file.
#
#   setup_system PROFILE     installs the Debian or Ubuntu packages that are missing, or says what to install
#                            (base, test, ecosystem)
#   setup_fuse               status 1 and one line with the reason if this user cannot use /dev/fuse
#   setup_venv EXTRAS        installs the package, editable, into $venv, unless that is up to date
#
# OMIDBFS_PYTHON names the Python to use; without it, it is the newest suitable one on PATH.
# OMIDBFS_VENV names another virtual environment than .venv in the checkout.

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$(realpath -ms -- "${OMIDBFS_VENV:-$root/.venv}")
python='' # set by find_python, with what it lacks ("venv", "dev") in python_lacks
python_lacks=''

say() { printf '%s\n' "$*" >&2; }
die() {
    say "$@"
    exit 1
}

# Logs of apt-get and pip name the mirrors and registries of this machine, sometimes with a password.
without_hosts() {
    sed -E -e '/^Looking in /d' -e 's#([a-z+]+)://[^/ ]+#\1://(host)#g' -e "s#host='[^']*'#host='(host)'#g" \
        -e "s#(resolv(e|ing)|connect(ion)? to) [^ ]+( \([^)]*\))?#\1 (host)#g"
}

# quietly TEXT COMMAND...: says TEXT, and shows what the command wrote only if it fails.
quietly() {
    local text=$1 log
    shift
    say "$text ..."
    if ! log=$("$@" 2>&1 </dev/null); then
        tail -n 30 <<<"$log" | without_hosts >&2
        say "Failed: $text"
        return 1
    fi
}

# --- the system ----------------------------------------------------------------------------------------------

# Asks an interpreter itself, because a name proves nothing: a pyenv shim may stand for no Python at all, and
# Debian's python3 comes without ensurepip and headers. Prints: complete, minor version, what is lacking, path.
probe='
import importlib.util, os, sys, sysconfig
if sys.version_info < (3, 11) or sys.version_info.releaselevel in ("alpha", "beta"):
    sys.exit(1)
lacks = [] if importlib.util.find_spec("ensurepip") else ["venv"]
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    lacks.append("dev")
print(int(not lacks), format(sys.version_info.minor, "03d"), ",".join(lacks) or "-", sys._base_executable)
'

# Sets python to the newest Python >= 3.11, a complete one before one that lacks something; status 1 if none.
find_python() {
    local name path answer complete minor lacks best=''
    python=''
    while read -r path; do
        answer=$("$path" -c "$probe" 2>/dev/null) || continue
        read -r complete minor lacks path <<<"$answer"
        if [[ $complete$minor > $best ]]; then
            best=$complete$minor python=$path python_lacks=${lacks#-}
        fi
    done < <(
        if [[ -n ${OMIDBFS_PYTHON:-} ]]; then
            type -P -- "$OMIDBFS_PYTHON"
        else
            compgen -c python3 | grep -xE 'python3(\.[0-9]+)?' | sort -u | while read -r name; do type -aP "$name"; done
        fi
    )
    [[ -n $python ]]
}

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }
of_distribution() { dpkg-query -S "$(readlink -f -- "$1")" >/dev/null 2>&1; }

has_python() {
    local wanted lacking
    if find_python; then
        for lacking in ${python_lacks//,/ }; do
            of_distribution "$python" ||
                die "$python lacks its '$lacking' part (venv: ensurepip; dev: Python.h): complete it, or name another with OMIDBFS_PYTHON."
            missing+=("${lacking}:$(basename -- "$(readlink -f -- "$python")")-$lacking")
        done
    elif [[ -n ${OMIDBFS_PYTHON:-} ]]; then
        die "OMIDBFS_PYTHON=$OMIDBFS_PYTHON is not a Python 3.11 or newer."
    elif type -P apt-get >/dev/null && ! is_installed python3; then
        for wanted in python3 python3-venv python3-dev; do missing+=("$wanted:$wanted"); done
    else
        die "Python 3.11 or newer is needed, and PATH has none (python3 there: $(python3 -V 2>/dev/null || echo none))." \
            "Install one with its venv and dev parts, or name it with OMIDBFS_PYTHON."
    fi
}

has_compiler() {
    local compiler=cc
    type -P cc >/dev/null || compiler=gcc
    "$compiler" -x c -fsyntax-only - <<<'#include <stdio.h>' 2>/dev/null
}
has_libfuse() { if type -P pkg-config >/dev/null; then pkg-config --exists fuse3; else is_installed libfuse3-dev; fi; }

# Fills missing with one "what:package ..." for each thing this profile needs and does not find.
find_missing() {
    local tool
    missing=()
    has_python
    has_compiler || missing+=('a C compiler:gcc libc6-dev')
    has_libfuse || missing+=('the headers of libfuse 3:libfuse3-dev')
    local -A tools=([pkg-config]=pkg-config [fusermount3]=fuse3)
    [[ $1 == base ]] || tools+=([dcmdump]=dcmtk [jq]=jq [rsync]=rsync [zsh]=zsh [fish]=fish [getfattr]=attr [ps]=procps [tar]=tar [mpirun]=openmpi-bin
        [smbd]=samba [smbclient]=smbclient [systemd-analyze]=systemd [nsenter]=util-linux [faketime]=faketime [identify]=imagemagick
        [curl]=curl [openssl]=openssl [rclone]=rclone [pdflatex]='texlive-latex-base texlive-latex-recommended' [cadaver]=cadaver [mount.davfs]=davfs2 [litmus]=litmus)
    # Ubuntu has Chromium as a snap only, which needs a daemon of its own: its tests are left out there.
    [[ $1 == base ]] || ! grep -qsx 'ID=debian' /etc/os-release || tools+=([chromium]=chromium)
    [[ $1 != ecosystem ]] || tools+=([Xvfb]=xvfb [pcmanfm]=pcmanfm)
    for tool in "${!tools[@]}"; do
        PATH=$PATH:/usr/sbin:/sbin type -P "$tool" >/dev/null || missing+=("$tool:${tools[$tool]}")
    done
}

apt_get() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@"; }
apt_install() (
    # A package such as Samba may start a service when it is installed. The tests start their own, so policy-rc.d
    # forbids that (invoke-rc.d(8)).
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap '"${as_root[@]}" rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
    fi
    apt_get install -y --no-install-recommends "$@" && exit
    # Package lists that are absent or out of date are the usual reason.
    apt_get update && apt_get install -y --no-install-recommends "$@"
)

setup_system() {
    local missing packages as_root=()
    find_missing "$1"
    ((${#missing[@]})) || return 0
    if ! type -P apt-get >/dev/null; then
        die "Missing on this system: $(printf '%s, ' "${missing[@]%%:*}" | sed 's/, $//'). It has no apt-get: install them with its own package manager, then run this again."
    fi
    # Sorted, so that the command for the administrator reads the same every time.
    mapfile -t packages < <(printf '%s\n' "${missing[@]#*:}" | tr ' ' '\n' | sort -u)
    if ((EUID)); then
        if sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        elif [[ -t 0 && -t 2 ]] && type -P sudo >/dev/null && sudo -v; then
            as_root=(sudo)
        else
            say "Packages are missing, and installing them needs root. An administrator has to run:"
            die "  sudo apt-get install -y ${packages[*]}"
        fi
    fi
    quietly "Installing ${packages[*]}" apt_install "${packages[@]}" || exit 1
    hash -r
    find_missing "$1"
    ((${#missing[@]} == 0)) ||
        die "Installed, and still not found: $(printf '%s, ' "${missing[@]%%:*}" | sed 's/, $//'). Look at PATH and at dpkg -L ${packages[*]}."
}

setup_fuse() {
    if [[ ! -c /dev/fuse ]] && ((EUID == 0)); then modprobe fuse 2>/dev/null || true; fi
    if [[ ! -c /dev/fuse ]]; then
        say "/dev/fuse is missing, so nothing can be mounted: load the module with 'sudo modprobe fuse'; start a container with '--device /dev/fuse --cap-add SYS_ADMIN'."
        return 1
    elif ! (: <>/dev/fuse) 2>/dev/null; then
        say "/dev/fuse cannot be opened by $(id -un), so nothing can be mounted: an administrator has to run 'sudo chmod 666 /dev/fuse', or allow the device to this container."
        return 1
    fi
}

# --- the virtual environment ---------------------------------------------------------------------------------

# A virtual environment that was moved still has a Python, but its scripts start the one at the old place.
venv_works() {
    "$venv/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        grep -qF -- "$venv" "$venv/bin/activate" 2>/dev/null
}

venv_key() { { cat -- "$root/pyproject.toml" && printf '%s\n' "$root" && "$venv/bin/python" -VV; } | sha256sum; }

# shellcheck disable=SC2094 # the checkout's directory is locked, not read or written
setup_venv() (
    local extras=$1
    flock 9 # one set-up at a time: the demo and the tests share the environment
    # An installation with more extras serves one with fewer.
    if venv_works && grep -qsxF -- "$(venv_key)" "$venv"/.installed*"$extras"*; then return; fi
    if ! venv_works; then
        if [[ -n $(ls -A -- "$venv" 2>/dev/null) && (-n ${OMIDBFS_VENV:-} || ! -f $venv/pyvenv.cfg) ]]; then
            die "$venv is not a working virtual environment with pip and Python 3.11 or newer: remove it, or name another with OMIDBFS_VENV."
        fi
        [[ -n $python ]] || find_python || die "Python 3.11 or newer is needed, and PATH has none."
        quietly "Creating ${venv#"$root"/} with $("$python" -V)" "$python" -m venv --clear -- "$venv" || exit 1
    fi
    rm -f -- "$venv"/.installed*
    cd -- "$root" || exit 1
    quietly "Installing omidbfs${extras:+[$extras]} into ${venv#"$root"/}" \
        "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -e ".${extras:+[$extras]}" || exit 1
    venv_key >"$venv/.installed${extras:+-$extras}"
) 9<"$root"

# --- what runs -----------------------------------------------------------------------------------------------

# Prints the mount points of omidbfs drives at or below the given directories. It reads the table of the kernel,
# because stat fails on a drive without its daemon.
mounts_below() {
    local target type directory
    while read -r _ target type _; do
        [[ $type == fuse.omidbfs ]] || continue
        printf -v target %b "${target//\\/\\0}" # the table writes a space as \040
        for directory in "$@"; do
            if [[ $target/ == "$directory"/* ]]; then printf '%s\n' "$target"; fi
        done
    done </proc/mounts
}

# The ids of processes that were started with NAME=VALUE in their environment. A daemon keeps it until it ends.
processes_with() { grep -lszxF -- "$1" /proc/[0-9]*/environ | cut -d/ -f3 || true; }

unmount() {
    { "$venv/bin/omidbfs" umount "$1" || fusermount3 -u -- "$1" || umount -- "$1"; } >/dev/null 2>&1
}

# end_processes NAME=VALUE: waits for these processes, then sends SIGTERM, then SIGKILL.
end_processes() {
    local signal pids
    for signal in 0 TERM KILL; do
        for _ in {1..40}; do
            pids=$(processes_with "$1")
            [[ -n $pids ]] || return 0
            # shellcheck disable=SC2086 # a list of numbers
            kill -s "$signal" $pids 2>/dev/null || true
            sleep 0.1
        done
    done
    return 1
}
