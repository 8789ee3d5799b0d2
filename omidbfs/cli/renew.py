"""``python -m omidbfs.cli.renew``: the process that brings the index of a drive up to date. A drive starts it.

It runs ``omidbfs index`` with the arguments of the drive and nothing else. It ignores ``[index]`` in a
configuration and ``OMIDBFS_INDEX_*``: these are for people who run that command. The last argument is a descriptor
(``process.life``): the process never outlives the drive.
"""

if __name__ == "__main__":  # worker processes also import this module, and need no command line
    import sys

    from omidbfs.base.process import end_with_parent

    end_with_parent(int(sys.argv.pop()))

    from omidbfs.cli.main import main

    main(prog_name="omidbfs", auto_envvar_prefix=None, default_map={})
