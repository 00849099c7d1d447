"""What callers pass, checked where it enters: arrays, keys, numbers, choices, functions, paths.

An error is a ValueError or TypeError of one sentence: the argument, its value and the way out.
"""

from aeot_jax.arguments.arrays import array as array
from aeot_jax.arguments.arrays import check_real as check_real
from aeot_jax.arguments.arrays import host_array as host_array
from aeot_jax.arguments.arrays import known as known
from aeot_jax.arguments.arrays import placed as placed
from aeot_jax.arguments.arrays import real as real
from aeot_jax.arguments.arrays import refuse_containers as refuse_containers
from aeot_jax.arguments.arrays import rounded_to_float32 as rounded_to_float32
from aeot_jax.arguments.choices import choice as choice
from aeot_jax.arguments.choices import flag as flag
from aeot_jax.arguments.choices import function as function
from aeot_jax.arguments.choices import instance as instance
from aeot_jax.arguments.choices import path as path
from aeot_jax.arguments.display import shown as shown
from aeot_jax.arguments.fields import known_fields as known_fields
from aeot_jax.arguments.fields import replace_field as replace_field
from aeot_jax.arguments.keys import key as key
from aeot_jax.arguments.rows import parts as parts
from aeot_jax.arguments.scalars import MOST as MOST
from aeot_jax.arguments.scalars import count as count
from aeot_jax.arguments.scalars import number as number
from aeot_jax.arguments.scalars import whole as whole
from aeot_jax.arguments.traces import is_concrete as is_concrete
from aeot_jax.arguments.traces import refuse_trace as refuse_trace
