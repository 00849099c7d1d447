"""What every campaign shares: it counts what it tried and what was survived, and says so."""

import pytest


class Tally:
    """Counts of one campaign; ``pytest -s`` shows them."""

    def __init__(self, name: str):
        self.name = name
        self.tried = 0
        self.failures: list[str] = []

    def record(self, case: str, problem: str | None) -> None:
        """Count one case; a problem says what went wrong, None that nothing did."""
        self.tried += 1
        if problem is not None:
            self.failures.append(f"{case}: {problem}")

    def say(self) -> None:
        survived = self.tried - len(self.failures)
        print(f"\n{self.name}: tried {self.tried}, survived {survived}")


@pytest.fixture
def tally(request):
    """A tally named after the test, which fails at the end if any case did."""
    counts = Tally(request.node.name)
    yield counts
    counts.say()
    assert counts.tried
    assert not counts.failures, "\n".join(counts.failures)
