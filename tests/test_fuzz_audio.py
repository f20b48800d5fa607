"""A short run of tests/fuzz_audio.py; docs/reliability.md holds the counts of the long one."""

from tests.fixtures.audio import ENCODERS
from tests.fuzz_audio import MUTATIONS, fuzz, mutants, seeds


def test_no_broken_file_breaks_a_promise():
    found = fuzz(inputs=400, seed=1)
    assert found.broken == []
    assert sum(found.outcomes.values()) == 400
    assert {outcome for _, outcome in found.outcomes} >= {"segments", "with a warning", "refused"}


def test_every_format_and_every_mutation_has_its_turn_and_a_seed_gives_the_same_files(tmp_path):
    files = seeds(tmp_path)
    first, again = ([next(stream) for _ in range(300)] for stream in (mutants(files, 5), mutants(files, 5)))
    assert first == again
    assert {suffix for suffix, _, _ in first} == set(ENCODERS)
    assert {name for _, names, _ in first for name in names.split(", ")} == set(MUTATIONS)
    assert sum(data == files[suffix] for suffix, _, data in first) < 15  # a mutation may happen to change nothing
