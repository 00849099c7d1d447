"""The verdict: what is good, what is weak and what to try, by rules on the numbers."""

from aeot_jax.report.verdict.findings import Finding as Finding
from aeot_jax.report.verdict.findings import Level as Level
from aeot_jax.report.verdict.judge import Verdict as Verdict
from aeot_jax.report.verdict.judge import judge as judge
from aeot_jax.report.verdict.numbers import Numbers as Numbers
