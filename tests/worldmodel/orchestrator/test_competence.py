from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worldmodel.orchestrator.competence import Competence


def test_means_by_hand() -> None:
    # (1 + successes) / (2 + trials): nothing seen 1/2; 3 of 3: 4/5; 2 of 3: 3/5; 0 of 3: 1/5.
    assert Competence().mean == 0.5
    assert Competence(3, 0).mean == 0.8
    assert Competence(2, 1).mean == 0.6
    assert Competence(0, 3).mean == 0.2


@given(st.lists(st.booleans(), max_size=30))
def test_trials_add_up_in_any_order(trials: list[bool]) -> None:
    known = Competence()
    for success in trials:
        before = known.mean
        known = known.after(success)
        assert (known.mean > before) == success, "a success raises it, a failure lowers it"
        assert 0 < known.mean < 1
    assert (known.successes, known.failures) == (sum(trials), len(trials) - sum(trials))
    backwards = Competence()
    for success in reversed(trials):
        backwards = backwards.after(success)
    assert backwards == known
