"""Start of a shim: ``python -I -S -E instances/shim/main.py /path/to/spec.json``.

The shim outlives whoever started it: it leads a session of its own, its standard streams are /dev/null and it ignores
SIGINT and SIGHUP. SIGTERM asks for a stop with grace, SIGQUIT for a kill at once. It ends with status 0 when the
backend's whole process tree is gone and the final state is written; 2 means that the spec could not be used, 1 that
the shim itself failed (the reason is in the state file).
"""

from __future__ import annotations

import os
import sys

# Isolated mode leaves this folder out of the module path. Appended, so that the standard library is always found first.
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from instances.shim.spec import Spec, SpecError
from instances.shim.supervision import Supervision


def main(arguments: list[str]) -> int:
    """Supervise the backend that the spec file describes; return the exit status of the shim."""
    if len(arguments) != 1:
        sys.stderr.write("usage: main.py SPEC.json\n")
        return 2
    try:
        spec = Spec.read(arguments[0])
    except SpecError as error:
        sys.stderr.write(f"{arguments[0]}: {error}\n")
        return 2
    return Supervision(spec).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
