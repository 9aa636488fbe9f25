"""Sound set-ups that look sick to a hasty check: nncheck must neither fail nor warn on any of them.

Every public function of these modules returns one set-up; `tests/test_healthy.py` asks every check about it.
"""
