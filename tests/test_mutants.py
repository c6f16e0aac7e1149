"""The faults of mutants.py, which is run by hand, still apply to the sources."""

import mutants
import pytest


@pytest.mark.parametrize("fault", mutants.FAULTS, ids=lambda fault: f"{fault.file}: {fault.new}")
def test_a_fault_changes_the_one_place_it_names(fault, tmp_path):
    folder = "" if fault.file.startswith("native/") else "src/crossent/"
    place = tmp_path / folder / fault.file
    place.parent.mkdir(parents=True)
    place.write_bytes((mutants.ROOT / folder / fault.file).read_bytes())
    assert mutants.apply(fault, tmp_path) == ""
    assert place.read_text().count(fault.old) <= fault.new.count(fault.old)
    for word in fault.tests.split():
        if word.startswith("test_"):
            assert (mutants.ROOT / "tests" / word.partition("::")[0]).is_file()
