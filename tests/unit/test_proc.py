"""The name of a process cannot forge what the kernel reports about it."""

import os
import subprocess
import sys
from pathlib import Path

from omidbfs.fuse.proc import field


def test_the_name_of_a_process_is_no_field() -> None:
    code = r"open('/proc/self/comm', 'w').write('a\rGroups: 424242'[:15]); print(end='', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code + "\n"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        status = Path(f"/proc/{process.pid}/status")
        while b"\r" not in status.read_bytes():
            assert process.poll() is None
        assert field(status, "Groups") == " ".join(map(str, os.getgroups()))
        assert field(status, "Nothing") is None
    finally:
        process.communicate(b"\n")
    assert field(status, "Groups") is None
