"""A short run of ``scripts/fuzz``: decoders raise only the errors that they document."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
sys.path.insert(0, str(FUZZ))

from mutate import mutated  # noqa: E402
from targets import CORPUS, NAMES, target  # noqa: E402

INPUTS = 400


@pytest.mark.unmeasured
@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_raises_only_documented_errors(name: str, tmp_path: Path) -> None:
    decoder = target(name, tmp_path)
    assert decoder.seeds
    for content in decoder.seeds:
        decoder.decode(content)
    for number in range(INPUTS):
        decoder.decode(mutated(number, decoder.seeds, decoder.form))


def test_the_same_number_is_the_same_input_and_nearly_every_number_another() -> None:
    seeds = [path.read_bytes() for path in sorted((CORPUS / "nbss").iterdir())]
    inputs = [mutated(number, seeds, "json") for number in range(500)]
    assert inputs == [mutated(number, seeds, "json") for number in range(500)]
    assert len(set(inputs)) > 450


def test_what_fails_is_kept_and_reported(tmp_path: Path) -> None:
    program = """
import sys
sys.path.insert(0, sys.argv[1])
import main, mutate
from pathlib import Path
from targets import Target

def decode(content):
    if b"x" in content:
        raise KeyError("a defect")

found = main.Found()
for number in range(50):
    main.attempt(Target([], "bytes", decode), b"x%d" % number if number == 7 else b"", found)
assert found.inputs == 50
main.show({"it": found}, 1.0, 1)
print(main.keep(Path(sys.argv[2]), "it", found.failures[0][0]).read_bytes(), found.failures[0][1].splitlines()[-1])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(FUZZ), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "| it | 50 | 1 |" in done.stdout
    assert done.stdout.splitlines()[-1] == "b'x7' KeyError: 'a defect'"
