"""The design, held by a test: who may import whom, no pickle, a light import."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import aeot_jax

PACKAGE = Path(aeot_jax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = (
    "_version arguments numerics reprs trees typing",
    "inputs machines measures storage",
    "ot ot.cells ot.checks ot.exact",
    "ot.centring ot.frames ot.merging",
    "data metrics nn ot.problem",
    "ot.devices ot.density ot.lists",
    "ot.counts",
    "ot.solver",
    "ot.couplings",
    "ot.duality",
    "ot.extension ot.interop ot.sampling",
    "classes",
    "conditions model",
    "checkpoints drawing manifold walk",
    "evaluate fitting plot",
    "report",
    "pipeline",
    "cli",
    "__main__ names",
    "",
)
"""The rooms, from the ground up: a module may import its own room and those on the floors below.

A room is a folder, or a module beside the folders."""
LEAVES = ("plot", "cli", "report", "evaluate", "__main__")
"""Nobody imports a leaf but the leaves that show or start it."""
KNOWS_BOTH = {
    "fitting.inputs",
    "fitting.stages",
    "pipeline",
    "model",
    "checkpoints.checkpoint",
    "checkpoints.contents",
}
"""The only modules that see the networks and the transport, apart from the leaves."""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relative to itself; write the full name."
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                known = name.removeprefix("aeot_jax.") in MODULES
                names.add(name if known else str(node.module))
    return names


def inside(path: Path) -> set[str]:
    """Modules of this package that a file imports, without the package's name."""
    found = {name.removeprefix("aeot_jax.") for name in imported(path) if "aeot_jax." in name}
    return found & set(MODULES)


def top_level(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


IMPORTS = {name: inside(path) for name, path in MODULES.items()}


def room_of(name: str) -> str:
    """The folder that holds a module; below `ot` the folder inside it."""
    return ".".join(name.split(".")[: 2 if below(name, "ot") else 1])


def test_the_files_were_found():
    assert {"pipeline", "ot.solver.stepping", "nn.train", "metrics.prdc", "cli.fit"} <= set(MODULES)
    assert "ot.cells.power" in IMPORTS["ot.counts.ways.way"]


def test_imports_flow_one_way():
    """Between the rooms by their floors, and inside of each without a cycle."""
    floor = {room: height for height, rooms in enumerate(FLOORS) for room in rooms.split(" ")}
    assert {room_of(name) for name in MODULES} == set(floor)
    for name in MODULES:
        for other in IMPORTS[name]:
            if room_of(other) != room_of(name):
                assert floor[room_of(other)] < floor[room_of(name)], f"{name} imports {other}"
        assert name not in reached(name), f"{name} imports itself by way of {IMPORTS[name]}"


def test_a_folder_holds_twelve_files_at_most():
    for folder in {path.parent for path in FILES}:
        files = set(folder.glob("*.py")) - {folder / "__init__.py"}
        assert len(files) <= 12, f"{folder.relative_to(PACKAGE.parent)} holds {len(files)}"


def test_files_and_functions_stay_short():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 350, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                docstring = (ast.get_docstring(node, clean=False) or "").splitlines()
                lines = 1 + (node.end_lineno or 0) - node.lineno - len(docstring)
                assert lines <= 60, f"{path}: {node.name} has {lines} lines beside its docstring"


def test_only_public_functions_of_transport_take_many_arguments():
    """Seven or more are for who calls by name; what belongs together goes in a record."""
    many = set()
    for path in FILES:
        if below(module_name(path), "ot"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef):
                    own = node.args
                    if len([*own.posonlyargs, *own.args, *own.kwonlyargs]) >= 7:
                        many.add(node.name)
    assert many <= set(dir(aeot_jax)), many - set(dir(aeot_jax))
    assert len(many) <= 11, many


def reached(name: str) -> set[str]:
    """Modules that importing one leads to; through packages' own files only where they say so."""
    found: set[str] = set()
    todo = set(IMPORTS[name])
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            todo |= IMPORTS[module]
    return found


def test_foundations_stand_on_nothing():
    for name in ("typing", "numerics", "reprs", "storage.files", "inputs.pixels", "inputs.nearest"):
        assert not IMPORTS[name], name
    for name in MODULES:
        if below(name, "arguments"):
            assert all(below(other, "arguments") for other in IMPORTS[name]), name


def test_transport_knows_no_networks_and_networks_no_transport():
    for name, path in MODULES.items():
        if below(name, "ot"):
            assert "flax" not in top_level(path), name
            assert not any(below(other, "nn") for other in IMPORTS[name]), name
        if below(name, "nn"):
            assert not any(below(other, "ot") for other in IMPORTS[name]), name
        both = {parent for parent in ("ot", "nn") for o in IMPORTS[name] if below(o, parent)}
        if len(both) == 2:
            leaf = any(below(name, leaf) for leaf in LEAVES)
            assert leaf or name in {"names", *KNOWS_BOTH}, f"{name} knows networks and transport"


def test_metrics_and_data_take_and_give_arrays():
    allowed = ("arguments", "inputs", "numerics", "reprs", "storage", "trees", "typing")
    for name in MODULES:
        for parent in ("metrics", "data"):
            if below(name, parent):
                for other in IMPORTS[name]:
                    assert room_of(other) in (parent, *allowed), f"{name} imports {other}"


def test_nobody_imports_a_leaf():
    for name in MODULES:
        if any(below(name, leaf) for leaf in LEAVES):
            continue
        leaves = {o for o in IMPORTS[name] for leaf in LEAVES if below(o, leaf)}
        assert not leaves, f"{name} imports {leaves}"


def test_references_share_no_code_with_what_they_check():
    for name in ("ot.exact.exact", "ot.exact.laguerre", "ot.exact.densities"):
        assert not reached(name) & {
            "ot.cells.power",
            "ot.counts.estimate",
            "ot.solver.stepping",
            "numerics",
        }, name
        assert "jax" not in top_level(MODULES[name]), name


def test_no_pickle():
    for name, path in MODULES.items():
        assert not top_level(path) & {"pickle", "dill", "cloudpickle", "joblib", "shelve"}, name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), name
                assert node.value.value is False, name


def test_annotations_are_seen_at_run_time():
    """The shape checker reads annotations; this import would turn them into strings."""
    for name, path in MODULES.items():
        assert "__future__" not in imported(path), name


@pytest.fixture(scope="module")
def loads():
    """Modules that the package loads beyond Flax and optax, all after its names are there, and
    where JAX then keeps programs.
    """
    code = (
        "import sys, flax.nnx, optax; before = set(sys.modules); import aeot_jax;"
        "print(*set(sys.modules) - before); import aeot_jax.names, aeot_jax.ot.interop;"
        "print(*sys.modules); print(sys.modules['jax'].config.jax_compilation_cache_dir)"
    )
    own = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=own
    )
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_importing_the_package_is_light(loads):
    """Beyond what Flax and optax load, nothing that only a command or a file format needs."""
    heavy = {"tyro", "matplotlib", "rich", "pooch", "requests", "PIL", "sklearn", "ott", "orbax"}
    loaded = {name.partition(".")[0] for name in loads[0]}
    assert "aeot_jax" in loaded
    assert not heavy & loaded


def test_importing_the_package_loads_no_plots_and_no_command_line(loads):
    assert {"aeot_jax.names", "aeot_jax.ot.interop"} <= loads[1]
    assert not {"tyro", "matplotlib", "pooch", "PIL", "sklearn", "ott"} & loads[1]


def test_a_program_that_imports_the_package_has_no_cache(loads):
    assert loads[2] == {"None"}


def test_a_command_begins_before_jax_is_imported():
    code = "import sys, aeot_jax, aeot_jax.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"jax", "numpy", "flax", "optax"} & set(done.stdout.split())
    assert "fit" in dir(aeot_jax)
    assert aeot_jax.fit is aeot_jax.pipeline.fit
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = aeot_jax.nothing
