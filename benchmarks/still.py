"""omidbfs that never looks at its source. The benchmarks show synthetic indexes with it.

python still.py mount --foreground --index INDEX SOURCE MOUNTPOINT
"""

from omidbfs.cli.main import main
from omidbfs.serving.refresh import Refresher


async def _stay(self: Refresher) -> None:
    pass


if __name__ == "__main__":
    Refresher.refresh = _stay  # type: ignore[method-assign]
    main()
