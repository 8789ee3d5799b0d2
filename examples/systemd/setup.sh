#!/bin/sh
# Sets up a drive of /data/omidb at /srv/omidb with systemd: at boot, for all users, as an account of its own.
# Run it as root, after you have looked at it. The account needs to be able to read /data/omidb.
set -eu

python3 -m venv /opt/omidbfs
/opt/omidbfs/bin/pip install omidbfs            # or the directory of a checkout, or a wheel

useradd --system --home-dir /var/cache/omidbfs --create-home omidb
install -d -o omidb -g omidb -m 0700 /srv/omidb /var/cache/omidbfs
grep -qx user_allow_other /etc/fuse.conf || echo user_allow_other >>/etc/fuse.conf

# This writes omidbfs-srv-omidb.service, which is beside this script, and srv-omidb.mount. Enable one of them.
/opt/omidbfs/bin/omidbfs systemd /data/omidb /srv/omidb --user omidb --allow-other --refresh-every 3600 \
    --index /var/cache/omidbfs/omidb.index --install /etc/systemd/system
systemctl daemon-reload
systemctl enable --now omidbfs-srv-omidb.service
