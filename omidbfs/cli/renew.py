"""``python -m omidbfs.cli.renew``: the process that brings the index of a drive up to date.

It is ``omidbfs index`` with the arguments of the drive and nothing else: options of ``[index]`` in a
configuration, and of ``OMIDBFS_INDEX_*``, are for people who run that command.
"""

if __name__ == "__main__":  # not in worker processes, which import this module too and need no command line
    from omidbfs.cli.main import main

    main(prog_name="omidbfs", auto_envvar_prefix=None, default_map={})
